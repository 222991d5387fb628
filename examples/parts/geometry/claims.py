"""What geometry.py must show."""

import math

from support.claims import claim, derived

SEEDS = (0, 1, 2)


def claims(runs):
    random = [(n, found) for run in runs for n, found in run["random"].items()]
    deviations, ones, x_hat, _ = zip(*(found.max(axis=0) for _, found in random))
    batches = "random batches of 2 to 1000 values, eps = 0"
    yield derived(f"{batches}: dL/dx minus the projections", deviations, high=1e-10)
    yield derived(f"{batches}: dL/dx along the ones", ones, high=1e-10)
    yield derived(f"{batches}: dL/dx along x_hat", x_hat, high=1e-10)
    lengths = [found[:, 3].max() for n, found in random if n == 2]
    yield derived("random batches of 2 values, eps = 0: |dL/dx|", lengths, high=1e-10)
    found = runs[0]["picture"]
    left = found.g + found.through_mean + found.through_var
    errors = abs(found.scale * left - found.d_x)
    yield derived("picture: gamma / sigma times the rest - dL/dx", errors, high=1e-10)
    ratios = [
        math.sqrt((found[:, 3] ** 2).mean() * n / (n - 2))
        for n, found in random
        if n > 2
    ]
    name = "300 random batches of 3 to 1000 values: root mean square of |dL/dx|"
    yield claim(f"{name} / theory", ratios, 0.85, 1.15)

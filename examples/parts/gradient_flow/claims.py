"""What gradient_flow.py must show."""

import numpy as np

from parts.gradient_flow.plots import named
from support.claims import claim

SEEDS = (0, 1, 2)


def claims(runs):
    for case in runs[0]["factors"]:
        name, (_, bn) = named(*case), case
        found = [run["factors"][case] for run in runs]
        ratios = np.divide(found, [run["theory"][case] for run in runs])
        yield claim(f"{name}: factor / theory", ratios.ravel(), 0.95, 1.05)
        changes = [max(factors) / min(factors) - 1 for factors in found]
        bounds = {"high": 1e-6} if bn else {"low": 1}
        yield claim(f"{name}: relative change with sigma", changes, **bounds)
    for rate, step in ((0.5, 2), (0.1, 15)):
        factors = [run["early"][rate][step] for run in runs]
        name = f"ReLU, batch norm, lr {rate}: factor after {step} steps"
        yield claim(name, factors, high=1.2)
    depths = runs[0]["depths"]
    for depth in (5, 10):
        for bn, bounds in ((False, {"high": 0.3}), (True, {"low": 0.85})):
            i = depths.index(depth)
            found = [run["accuracy"]["sigmoid", bn][i] for run in runs]
            name = named(f"sigmoid, depth {depth}", bn)
            yield claim(f"{name}: test accuracy", found, **bounds)

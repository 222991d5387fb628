"""What geometry.py must show."""

from support.claims import derived

SEEDS = (0,)


def claims(runs):
    (run,) = runs
    columns = [found.max(axis=0) for found in run["random"].values()]
    deviations, along_ones, along_x_hat, _ = zip(*columns)
    batches = "random batches of 2 to 1000 values, eps = 0"
    yield derived(f"{batches}: dL/dx minus the projections", deviations, high=1e-10)
    yield derived(f"{batches}: dL/dx along the ones", along_ones, high=1e-10)
    yield derived(f"{batches}: dL/dx along x_hat", along_x_hat, high=1e-10)
    lengths = run["random"][2][:, 3]
    yield derived("random batches of 2 values, eps = 0: |dL/dx|", lengths, high=1e-10)
    found = run["picture"]
    left = found.g + found.through_mean + found.through_var
    errors = abs(found.scale * left - found.d_x)
    yield derived(
        "picture: gamma / sigma times the rest, minus dL/dx", errors, high=1e-10
    )

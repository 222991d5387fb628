"""What geometry.py must show: identities, which no seed can change."""

from support.claims import claim

SEEDS = (0,)


def claims(runs):
    (run,) = runs
    columns = [found.max(axis=0) for found in run["random"].values()]
    deviations, along_ones, along_x_hat, _ = zip(*columns)
    batches = "random batches of 2 to 1000 values, eps = 0"
    yield claim(f"{batches}: dL/dx minus the projections", deviations, high=1e-10)
    yield claim(f"{batches}: dL/dx along the ones", along_ones, high=1e-10)
    yield claim(f"{batches}: dL/dx along x_hat", along_x_hat, high=1e-10)
    lengths = run["random"][2][:, 3]
    yield claim("random batches of 2 values, eps = 0: |dL/dx|", lengths, high=1e-10)
    found = run["picture"]
    left = found.g + found.through_mean + found.through_var
    errors = abs(found.scale * left - found.d_x)
    yield claim(
        "picture: gamma / sigma times the rest, minus dL/dx", errors, high=1e-10
    )

"""What covariate_shift.py must show."""

import numpy as np

from support.claims import claim

SEEDS = (0, 1, 2)


def claims(runs):
    for name, bounds in (("without", {"high": 0.65}), ("with", {"low": 0.88})):
        early = [run[name].accuracy[run[name].steps == 1000].item() for run in runs]
        yield claim(
            f"{name} batch norm, lr 0.1: test accuracy at step 1000", early, **bounds
        )
    high = [run["without, high"] for run in runs]
    early = [run.accuracy[run.steps == 1000].item() for run in high]
    yield claim("without batch norm, lr 2: test accuracy at step 1000", early, low=0.85)
    ahead = [
        run["with, high"].accuracy[-1] - run["without, high"].accuracy[-1]
        for run in runs
    ]
    name = "lr 2: test accuracy at step 5000, with batch norm minus without"
    yield claim(name, ahead, -0.02, 0.02)
    ahead = [run["with"].accuracy[-1] - run["without"].accuracy[-1] for run in runs]
    yield claim(
        "lr 0.1: test accuracy at step 5000, with batch norm minus without",
        ahead,
        low=0.02,
    )
    for name, bounds in (("without", {"low": 10}), ("with", {"high": 2})):
        growths = [np.median(run[name].growth) for run in runs]
        yield claim(
            f"{name} batch norm, lr 0.1: spread of a unit's inputs, end / start",
            growths,
            **bounds,
        )

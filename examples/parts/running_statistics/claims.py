"""What running_statistics.py must show."""

import numpy as np

from support.claims import claim
from support.measures import final_loss, relative_error

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    errors = [relative_error(f["measured"], f["theory"]) for f in run["same batch"]]
    yield claim("same batch again: relative error of the theory", errors, high=1e-12)
    for p, found in run["spread"].items():
        ratios = np.divide(found, run["spread theory"][p])
        yield claim(f"std of the running mean / theory, p = {p}", ratios, 0.92, 1.08)
    for (n, layers), found in run["gap"].items():
        gaps = [gap[-1] * 2 * n / layers for gap in found]
        bounds = (0.95, 1.05) if layers == 1 else (1.0, 1.5)
        name = f"eval-train gap / (k / (2N)), N = {n}, k = {layers} layers"
        yield claim(name, gaps, *bounds)
    own, fast, _ = (
        [final_loss(run["losses"]) for run in runs] for runs in run["training"].values()
    )
    yield claim("training with batch statistics: loss", own, high=0.5)
    yield claim("training with running statistics, p = 0.1: loss", fast, low=1.5)

"""What batch_noise.py must show."""

import numpy as np

from parts.batch_noise.ghost_batches import OPTIMIZERS
from support.claims import claim, derived
from support.measures import largest

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    ratios = np.divide(run["errors of mean"], run["expected error"])
    yield claim("std of the batch mean / (s / √N)", ratios.ravel(), 0.95, 1.05)
    ratios = np.divide(run["shrinkages"], run["expected shrinkage"])
    yield claim(
        "learned gamma / mean standard deviation of batches", ratios.ravel(), 0.98, 1.02
    )
    yield claim("gamma / s", np.ravel(run["shrinkages"]), high=1)
    for eps, (found, expected) in run["pair gradients"].items():
        error = largest(found - expected)
        name = (
            f"batch of two, eps = {eps:g}: share of dL/dx left, minus eps / (d² + eps)"
        )
        yield derived(name, [error], high=1e-9)
    signs = run["pairs"][min(run["pairs"])]
    distant = np.abs(run["d"]) > 0.03
    deviation = largest((signs - np.sign(run["d"]))[distant])
    name = "batch of two, eps = 1e-05, |d| > 0.03: deviation of x̂ from its sign"
    yield derived(name, [deviation], high=0.01)
    ghosts = run["added errors"]["SGD", 32], run["added errors"]["Adam", 32]
    yield claim("groups of 32: added test error", np.ravel(ghosts), -0.02, 0.02)
    for optimizer in OPTIMIZERS:
        for group in (2, 4):
            added = run["added errors"][optimizer, group]
            yield claim(f"{optimizer}, groups of {group}: added test error", added, 0)

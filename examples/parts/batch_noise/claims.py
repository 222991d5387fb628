"""What batch_noise.py must show."""

import numpy as np

from parts.batch_noise.ghost_batches import OPTIMIZERS
from support.claims import claim
from support.measures import largest

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    ratios = np.divide(run["errors_of_mean"], run["expected_error"])
    yield claim("std of the batch mean / (s / √N)", ratios.ravel(), 0.95, 1.05)
    ratios = np.divide(run["shrinkages"], run["expected_shrinkage"])
    yield claim("(gamma / s) / (E[s_B] / s)", ratios.ravel(), 0.98, 1.02)
    yield claim("gamma / s", np.ravel(run["shrinkages"]), high=1)
    signs = run["pairs"][min(run["pairs"])]
    deviation = largest(signs - np.sign(run["d"]))
    yield claim("x̂ in a batch of two: deviation from its sign", [deviation], high=0.01)
    for optimizer in OPTIMIZERS:
        for group in (2, 4):
            added = run["added_errors"][optimizer, group]
            yield claim(f"{optimizer}, groups of {group}: added test error", added, 0)

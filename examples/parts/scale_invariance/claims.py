"""What scale_invariance.py must show."""

import numpy as np

from support.claims import claim, derived
from support.measures import relative_error

SEEDS = (0, 1, 2)


def claims(runs):
    errors = [max(map(max, run["invariance"].values())) for run in runs]
    yield derived(
        "BN((aW)u) and its gradient: relative error of the invariance",
        errors,
        high=1e-12,
    )
    cosines = [np.abs(run["radial"][0.0][0]).max() for run in runs]
    yield derived(
        "eps = 0: largest |cosine| of a unit's w and dL/dw", cosines, high=1e-13
    )
    errors = [
        max(relative_error(*found) for eps, found in run["radial"].items() if eps)
        for run in runs
    ]
    yield derived(
        "eps > 0: relative error of the formula for this cosine", errors, high=1e-6
    )
    paths = [path for run in runs for path in run["rates"].values()]
    errors = [relative_error(path.size, path.pythagoras) for path in paths]
    yield derived("|W|² by Pythagoras: relative error", errors, high=1e-12)
    growths = [np.diff(path.size).min() for path in paths]
    yield derived("smallest growth of |W|² in a step", growths, low=0)
    decays = [path.effective_lr[-1] / path.effective_lr[0] for path in paths]
    yield claim("effective learning rate lr / |W|², end / start", decays, high=1)
    differences = [
        relative_error(path.loss, run["reference"].loss)
        for run in runs
        for path in run["scaled"].values()
    ]
    name = "losses of (aW, a² lr): relative difference from (W, lr)"
    yield derived(name, differences, high=1e-9)

"""What scale_invariance.py must show."""

import numpy as np

from support.claims import claim
from support.measures import relative_error

SEEDS = (0, 1, 2)


def claims(runs):
    errors = [max(map(max, run["invariance"].values())) for run in runs]
    yield claim("relative error of BN((aW)u) and its gradient", errors, high=1e-12)
    cosines = [np.abs(run["radial"][0.0][0]).max() for run in runs]
    yield claim("|cosine| of w and dL/dw, eps = 0", cosines, high=1e-13)
    errors = [
        max(relative_error(*found) for eps, found in run["radial"].items() if eps)
        for run in runs
    ]
    yield claim("relative error of the cosine's formula, eps > 0", errors, high=1e-6)
    paths = [path for run in runs for path in run["rates"].values()]
    errors = [relative_error(path.size, path.pythagoras) for path in paths]
    yield claim("relative error of Pythagoras for |W|²", errors, high=1e-12)
    growths = [np.diff(path.size).min() for path in paths]
    yield claim("smallest growth of |W|² in a step", growths, low=0)
    decays = [path.effective_lr[-1] / path.effective_lr[0] for path in paths]
    yield claim("effective learning rate, end / start", decays, high=1)
    differences = [
        relative_error(path.loss, run["reference"].loss)
        for run in runs
        for path in run["scaled"].values()
    ]
    name = "losses of (aW, a² lr): relative difference from (W, lr)"
    yield claim(name, differences, high=1e-9)

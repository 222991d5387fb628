"""What bias_is_redundant.py must show."""

import numpy as np

from parts.bias_is_redundant.plots import NO_GRADIENT, named
from support.claims import claim, derived

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    for case, pairs in run["pairs"].items():
        largest = [pair["differences"].max() for pair in pairs]
        yield derived(
            f"{named(*case)}, float64: difference of parameters", largest, high=1e-9
        )
    # In most runs this is rounding, in some of them a rounding error has grown.
    for optimizer in ("SGD", "momentum"):
        pairs = run["float32 pairs"][optimizer]
        largest = [np.abs(np.subtract(*pair["losses"])).max() for pair in pairs]
        yield claim(f"{optimizer}, float32: difference of losses", largest, high=0.2)
    pairs = run["float32 pairs"]["Adam"]
    largest = [np.abs(np.subtract(*pair["losses"])).max() for pair in pairs]
    yield claim("Adam, float32: difference of losses", largest, low=1e-3)
    drifts = {case: [b[-1] for b in paths] for case, paths in run["drifts"].items()}
    name = "b without gradient, Adam in"
    yield claim(f"{name} float32: |b|", drifts["Adam", "float32"], 1e-3, 0.2)
    yield claim(f"{name} float64: |b|", drifts["Adam", "float64"], high=1e-8)
    for case in run["gradient left"][0]:
        left = [found[case] for found in run["gradient left"]]
        name = f"{case}: |dL/db| / sum of |dL/dx|"
        if case in NO_GRADIENT:
            yield derived(name, left, high=1e-12)
        else:
            yield claim(name, left, low=0.01)

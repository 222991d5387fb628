"""What gamma_and_beta.py must show."""

import math

import numpy as np

from support.claims import claim, derived

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    yield derived("batch norm as the identity: error", run["identity"], high=1e-12)
    difference = run["within 2"] - math.erf(math.sqrt(2))
    name = "fraction of N(0, 1) within [-2, 2]: |deviation from the exact one|"
    yield derived(name, [abs(difference)], high=1e-3)
    for std, value in run["r_squared"].items():
        difference = value - run["r_squared theory"][std]
        name = f"R² of a linear fit to the sigmoid, std {std}: |sampling error|"
        yield derived(name, [abs(difference)], high=1e-3)
    for name, floor in run["floor"].items():
        ratios = [loss / floor for loss in run["losses"][name, False]]
        name = f"{name}: error without gamma and beta / floor"
        yield claim(name, ratios, 1 - 1e-9, 1.01)
    for name in run["floor"]:
        errors = run["losses"][name, True]
        high = 0.02 if name == "bump" else 0.002
        yield claim(
            f"{name}: median error with gamma and beta", [np.median(errors)], high=high
        )
        yield claim(f"{name}: error with gamma and beta", errors, high=0.03)

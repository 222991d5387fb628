"""What gamma_and_beta.py must show."""

import math

from support.claims import claim, derived

SEEDS = (0,)  # one run measures three seeds
# For sin 3x, about one seed in seven ends above 0.002.
HIGHEST_ERRORS = {"|x|": 0.002, "x²": 0.002, "bump": 0.02, "sin 3x": 0.03}


def claims(runs):
    (run,) = runs
    yield derived("batch norm as the identity: error", run["identity"], high=1e-12)
    difference = run["within 2"] - math.erf(math.sqrt(2))
    name = "fraction of N(0, 1) within [-2, 2]: |deviation from the exact one|"
    yield derived(name, [abs(difference)], high=1e-3)
    for std, value in run["r squared"].items():
        difference = value - run["r squared theory"][std]
        name = f"R² of a linear fit to the sigmoid, std {std}: |sampling error|"
        yield derived(name, [abs(difference)], high=1e-3)
    for name, floor in run["floor"].items():
        ratios = [loss / floor for loss in run["losses"][name, False]]
        name = f"{name}: error without gamma and beta / floor"
        yield claim(name, ratios, 1 - 1e-9, 1.01)
    for name, high in HIGHEST_ERRORS.items():
        errors = run["losses"][name, True]
        yield claim(f"{name}: error with gamma and beta", errors, high=high)

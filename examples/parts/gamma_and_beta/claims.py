"""What gamma_and_beta.py must show."""

from support.claims import claim

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    yield claim("batch norm as the identity: error", run["identity"], high=1e-12)
    yield claim("fraction of N(0, 1) within [-2, 2]", [run["within 2"]], 0.95, 0.96)
    name = "R² of a linear fit to the sigmoid"
    yield claim(f"{name}, std 1", [run["r_squared"][1]], 0.98, 0.99)
    yield claim(f"{name}, std 4", [run["r_squared"][4]], 0.83, 0.85)
    for name, floor in run["floor"].items():
        ratios = [loss / floor for loss in run["losses"][name, False]]
        yield claim(f"{name}: error without them / floor", ratios, 1 - 1e-9, 1.01)
        high = 0.02 if name == "bump" else 0.002
        errors = run["losses"][name, True]
        yield claim(f"{name}: error with gamma and beta", errors, high=high)

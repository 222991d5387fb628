"""What backward_by_hand.py must show."""

from support.claims import claim, derived
from support.measures import largest

SEEDS = (0, 1, 2)


def claims(runs):
    differences = [max(error for _, error in run["steps"].values()) for run in runs]
    name = "largest difference of gradients, by hand and by the engine"
    yield derived(name, differences, high=1e-12)
    differences = [max(run["differences"].values()) for run in runs]
    yield derived("largest difference of parts and routes", differences, high=1e-12)
    components = [largest(run["along ones"]["total"]) for run in runs]
    yield derived("component of d_x along the ones", components, high=1e-12)
    errors = [run["float32"][1e4] for run in runs]
    for method, bounds in (
        ("one pass", {"low": 1}),
        ("two passes", {"high": 0.03}),
        ("centered again", {"high": 1e-5}),
    ):
        found = [error[method] for error in errors]
        yield claim(f"float32, mean 1e4, {method}: error of x_hat", found, **bounds)
    ratios = [
        run["float32"][1e4]["one pass"] / run["float32"][1e4]["ceiling"] for run in runs
    ]
    name = "float32, mean 1e4, one pass: error / (largest |x - mean| / sqrt(eps))"
    yield claim(name, ratios, 0.3, 1.1)
    negative = [error["negative variances"] for error in errors]
    name = "float32, mean 1e4, one pass: fraction of negative variances"
    yield claim(name, negative, 0.2, 0.8)

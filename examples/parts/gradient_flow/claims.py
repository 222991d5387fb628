"""What gradient_flow.py must show."""

import numpy as np

from parts.gradient_flow.plots import named
from support.claims import claim, derived
from support.networks import HE

SEEDS = (0, 1, 2)


def claims(runs):
    for case in runs[0]["factors"]:
        name, (_, bn) = named(*case), case
        found = [run["factors"][case] for run in runs]
        ratios = np.divide(found, [run["theory"][case] for run in runs])
        yield claim(f"{name}: factor per layer / theory", ratios.ravel(), 0.95, 1.05)
        changes = [max(factors) / min(factors) - 1 for factors in found]
        if bn:
            yield derived(
                f"{name}: relative change of the factor with sigma", changes, high=1e-6
            )
        else:
            yield claim(
                f"{name}: relative change of the factor with sigma", changes, low=1
            )
    yield from _of_batches(runs)
    for column, what in ((0, "sigma |dL/dh|"), (1, "sigma |dL/dW|")):
        scaled = [
            [sigma * pair[column] for sigma, pair in run["fixed output"].items()]
            for run in runs
        ]
        changes = [max(values) / min(values) - 1 for values in scaled]
        name = f"output layer fixed: relative change of {what} with sigma"
        yield derived(name, changes, high=1e-6)
    for rate, step in ((0.5, 2), (0.1, 15)):
        factors = [run["early"][rate][step] for run in runs]
        name = f"ReLU, batch norm, lr {rate}: factor per layer after {step} steps"
        yield claim(name, factors, high=1.2)
    yield from _of_training([run["accuracy"] for run in runs])


def _of_batches(runs):
    for activation in dict.fromkeys(a for a, _ in runs[0]["batches"]):
        ratios = [
            run["batches"][case] / expected
            for run in runs
            for case, expected in run["batch theory"].items()
            if case[0] == activation
        ]
        name = f"{activation}, batch norm, 8 to 128 rows: factor / finite-batch theory"
        yield claim(name, ratios, 0.92, 1.08)
    factors = [run["batches"]["ReLU", 8] for run in runs]
    yield claim("ReLU, batch norm, 8 rows: factor per layer", factors, low=1.6)


def _of_training(accuracies):
    def found(*case):
        return [accuracy[case] for accuracy in accuracies]

    for depth in (5, 10):
        for bn, bounds in ((False, {"high": 0.3}), (True, {"low": 0.85})):
            values = found("sigmoid", bn, depth, 1, 0.5)
            name = named(f"sigmoid, depth {depth}, sigma 1, lr 0.5", bn)
            yield claim(f"{name}: test accuracy", values, **bounds)
    values = found("sigmoid", False, 5, 4, 0.5)
    yield claim(
        f"{named('sigmoid, depth 5, sigma 4, lr 0.5', False)}: test accuracy",
        values,
        low=0.85,
    )
    for lr, bounds in ((0.01, {"high": -0.1}), (0.1, {"low": 0})):
        ahead = np.subtract(*(found("ReLU", bn, 20, HE, lr) for bn in (True, False)))
        name = f"ReLU, depth 20, lr {lr}: test accuracy with batch norm minus without"
        yield claim(name, ahead, **bounds)
    best = [
        np.max([v for case, v in a.items() if case[:3] == ("ReLU", bn, 20)])
        for a in accuracies
        for bn in (True, False)
    ]
    ahead = np.subtract(best[::2], best[1::2])
    name = (
        "ReLU, depth 20, best lr of each: test accuracy with batch norm minus without"
    )
    yield claim(name, ahead, 0, 0.15)

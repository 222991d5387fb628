"""What running_statistics.py must show."""

import numpy as np

from support.claims import claim, derived
from support.measures import final_loss, relative_error

SEEDS = (0,)  # one run measures three seeds
BATCH, FAST, SLOW = (
    "batch statistics",
    "running statistics, p = 0.1",
    "running statistics, p = 0.01",
)


def claims(runs):
    (run,) = runs
    errors = [relative_error(f["measured"], f["theory"]) for f in run["same batch"]]
    yield derived("same batch again: relative error of the formula", errors, high=1e-12)
    for (n, layers), found in run["gap"].items():
        if layers == 1:
            ratios = [gap[-1] / run["gap theory"][n, 1] - 1 for gap in found]
            name = f"N = {n}, 1 layer: relative error of the gap 1 - sqrt(1 - 1 / N)"
            yield derived(name, np.abs(ratios), high=1e-3)
    for p, found in run["spread"].items():
        ratios = np.divide(found, run["spread theory"][p])
        yield claim(f"p = {p}: std of the running mean / theory", ratios, 0.92, 1.08)
    for (n, layers), found in run["gap"].items():
        if layers > 1:
            gaps = [gap[-1] / run["gap theory"][n, layers] for gap in found]
            name = f"N = {n}, {layers} layers: gap / (k / (2N)), the leading order"
            yield claim(name, gaps, 1.0, 1.5)
    yield from _of_training(run["training"])


def _of_training(training):
    losses = {
        case: np.array([final_loss(run["losses"]) for run in runs])
        for case, runs in training.items()
    }
    yield claim(f"lr 1, {BATCH}: loss", losses[BATCH, 1.0], high=0.5)
    yield claim(f"lr 1, {FAST}: loss", losses[FAST, 1.0], low=1.5)
    name = "p = 0.1: loss minus that with batch statistics"
    yield claim(f"lr 0.5, {name}", losses[FAST, 0.5] - losses[BATCH, 0.5], 0.05, 0.3)
    name = "loss with p = 0.01 minus that with p = 0.1"
    yield claim(f"lr 0.1, {name}", losses[SLOW, 0.1] - losses[FAST, 0.1], low=0.05)

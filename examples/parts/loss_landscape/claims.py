"""What loss_landscape.py must show."""

import numpy as np

from support.claims import claim

SEEDS = (0,)  # one run measures three seeds
SMALLEST_RATIOS = {
    "loss variation, 8 layers": 10, "gradient predictiveness, 8 layers": 3,
    "effective smoothness, 8 layers": 1, "effective smoothness, 3 layers": 1.3,
}  # fmt: skip


def claims(runs):
    (seeds,) = runs
    for name, low in SMALLEST_RATIOS.items():
        ratios = [seed["ratios"][name] for seed in seeds]
        yield claim(f"{name}: without / with batch norm", ratios, low)
    without, plain, noisy = (
        [seed["noise"][kind] for seed in seeds]
        for kind in ("without", "batch norm", "noisy batch norm")
    )
    accuracies = [[run["accuracy"] for run in kind] for kind in (without, plain, noisy)]
    difference = np.abs(np.subtract(accuracies[2], accuracies[1]))
    yield claim(
        "|difference of test accuracies|, noisy BN and BN", difference, high=0.03
    )
    for name, values in zip(("BN", "noisy BN"), accuracies[1:]):
        ahead = np.subtract(values, accuracies[0])
        yield claim(f"test accuracy, {name} minus without BN", ahead, low=0.2)
    moved = [n["moved"].mean() / w["moved"].mean() for n, w in zip(noisy, without)]
    yield claim("movement of inputs, noisy BN / without BN", moved, low=1)

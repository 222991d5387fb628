"""What gradient_accumulation.py must show."""

from parts.gradient_accumulation.norms import BATCH, FROZEN, GHOST, LAYER, NONE
from parts.gradient_accumulation.plots import NAMES
from support.claims import claim, derived

SEEDS = (0, 1, 2)


def claims(runs):
    groups = runs[0]["groups"][BATCH]
    for norm in (NONE, LAYER, FROZEN, GHOST):
        found = [run["deviations"][norm][0].max() for run in runs]
        name = NAMES[norm].replace("\n", " ")
        yield derived(f"{name}: relative deviation, any groups", found, high=1e-12)
    network = "batch norm, 3 ReLU layers, at initialization"
    halves, pairs = groups.index(64), groups.index(2)
    found = [run["deviations"][BATCH][0][halves] for run in runs]
    yield claim(f"{network}: relative deviation of two halves", found, low=0.15)
    found = [abs(run["deviations"][BATCH][1][pairs]) for run in runs]
    yield claim(f"{network}: |cosine| of 64 pairs", found, high=0.15)
    name = "batch norm, lr 0.1, 300 steps: accuracy, groups of"
    found = [run["accuracy"][GHOST, 2] for run in runs]
    yield claim(f"{name} 2", found, high=0.8)
    found = [run["accuracy"][GHOST, n] for run in runs for n in (16, 32, 64, 128)]
    yield claim(f"{name} 16 and more", found, low=0.92)

"""What weight_decay.py must show."""

from parts.weight_decay.plots import named
from support.claims import claim

SEEDS = (0, 1, 2)


def claims(runs):
    *settings, no_decay, without = runs[0]
    standard, *_, short, long = settings
    for setting in settings:
        ratios = [run[setting].final_angle / setting.theory for run in runs]
        name = f"{named(setting)}: final angle / sqrt(2 lr decay)"
        yield claim(name, ratios, 0.97, 1.03)
    sizes = [
        run[other].size[-1] / run[standard].size[-1]
        for run in runs
        for other in (short, long)
    ]
    name = "lr 0.5, decay 0.01: final |W|, initial weights x 0.3 and 3, relative to x 1"
    yield claim(name, sizes, 0.9, 1.1)
    ratios = [run[no_decay].final_angle / run[standard].final_angle for run in runs]
    yield claim("lr 0.5: final angle without decay / with decay 0.01", ratios, high=0.3)
    ratios = [run[without].final_angle / without.theory for run in runs]
    yield claim(f"{named(without)}: final angle / sqrt(2 lr decay)", ratios, high=0.8)

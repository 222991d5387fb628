"""What diagnostics.py must show."""

from parts.diagnostics.plots import LABELS
from support.claims import claim
from support.measures import final_loss

SEEDS = (0, 1, 2)


def claims(runs):
    for name, bounds in (
        ("without", {"low": 0.02}),
        ("batch norm", {"high": 0.01}),
        ("He, lr 0.1", {"high": 0.05}),
    ):
        dead = [run[name]["dead"][-1].mean() for run in runs]
        yield claim(f"{LABELS[name]}: fraction of dead units", dead, **bounds)
    differences = [
        final_loss(run["without"]["loss"]) - final_loss(run["batch norm"]["loss"])
        for run in runs
    ]
    yield claim(
        "median loss of the last quarter, without minus with batch norm",
        differences,
        low=0,
    )

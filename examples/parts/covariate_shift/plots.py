"""The picture and the table of covariate_shift.py."""

from statistics import NormalDist

import numpy as np

from support.plotting import figure
from support.tables import table

NORMAL_SPREAD = 2 * NormalDist().inv_cdf(0.85)  # p85 - p15 of N(0, 1)
UNIT = 0  # the sigmoid whose inputs are plotted


def first_step(run, accuracy):
    """The first step at which the test accuracy is at least ``accuracy``."""
    reached = run.accuracy >= accuracy
    return int(run.steps[reached.argmax()]) if reached.any() else "never"


def report(measured):
    """The closing table: both networks, and the theory where there is one."""
    runs = list(measured.values())
    steps = runs[0].steps
    fifth = len(steps) // 5 - 1
    lines = {
        f"test accuracy, step {steps[fifth]}": lambda run: run.accuracy[fifth],
        f"test accuracy, step {steps[-1]}": lambda run: run.accuracy[-1],
        f"spread of inputs, step {steps[0]}": lambda run: np.median(run.spread[0]),
        f"spread of inputs, step {steps[-1]}": lambda run: np.median(run.spread[-1]),
        "spread of inputs, end / start": lambda run: np.median(run.growth),
        f"spread of inputs, end / start, unit {UNIT}": lambda run: run.growth[UNIT],
        "|change| of the median input, start to end": lambda run: np.median(run.shift),
    }
    theory = {f"spread of inputs, step {steps[0]}": f"batch norm: {NORMAL_SPREAD:.3g}"}
    rows = [
        (name, *(f"{of(run):.3g}" for run in runs), theory.get(name, ""))
        for name, of in lines.items()
    ]
    last = runs[0].accuracy[-1]
    name = f"first step with test accuracy {last:.3g}"
    rows.append((name, *(first_step(run, last) for run in runs), ""))
    title = "Inputs: medians over the 100 units of the last hidden layer"
    names = [named(case, run) for case, run in measured.items()]
    return table(title, ("", *names, "theory"), rows)


def named(case, run):
    """A network and its learning rate in words."""
    norm = "without" if case.startswith("without") else "batch norm"
    return f"{norm}, lr {run.lr:g}"


def plot(measured, name, theme):
    """The test accuracy, and the percentiles of one unit of both networks."""
    without, with_bn = measured["without"], measured["with"]
    fig, ((a, b, c),) = figure(theme, 1, 3, size=(3.4, 3.2))
    for case in ("with", "without", "with, high", "without, high"):
        run = measured[case]
        width = 1 if "high" in case else None
        label = named(case, run)
        a.plot(run.steps, 100 * run.accuracy, label=label, linewidth=width)
    a.set(title="a. Test accuracy, two rates", ylabel=f"test accuracy (%), {name}")
    a.legend()
    c.sharey(b)
    for axes, run, title in (
        (b, without, "b. Without"),
        (c, with_bn, "c. With BN"),
    ):
        low, middle, high = run.percentiles[:, :, UNIT].T
        band = "15th to 85th percentile of images"
        axes.fill_between(run.steps, low, high, alpha=0.25, label=band)
        axes.plot(run.steps, middle, label="median of images")
        axes.set_title(f"{title}: spread grows {run.growth[UNIT]:.2g}x")
        axes.set_ylabel(f"input of sigmoid {UNIT}, hidden layer 3")
        axes.margins(y=0.2)
    b.legend(loc="upper left")
    for axes in (a, b, c):
        axes.set_xlabel("step")
    return fig

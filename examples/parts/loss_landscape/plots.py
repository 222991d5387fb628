"""The tables and the picture of loss_landscape.py."""

import numpy as np

from support.plotting import NORM_STYLES, figure
from support.tables import span, table

SHOWN = (
    "loss variation, 8 layers", "gradient predictiveness, 8 layers",
    "effective smoothness, 8 layers", "effective smoothness, 3 layers",
)  # fmt: skip


def report(runs):
    """The ratios over seeds, and the effect of noise."""
    ratios = [(name, span(run["ratios"][name] for run in runs)) for name in SHOWN]
    noise = []
    for kind in runs[0]["noise"]:
        found = [run["noise"][kind] for run in runs]
        accuracy = np.mean([run["accuracy"] for run in found])
        moved = np.mean([[*run["moved"], *run["in stds"]] for run in found], axis=0)
        noise.append((kind, f"{accuracy:.1%}", *(f"{value:.3f}" for value in moved)))
    seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
    return "\n\n".join(
        [
            table(f"Without / with batch norm, {seeds}", ("", "ratio"), ratios),
            table(
                "Sigmoid networks: how far inputs of layers 1 to 3 move in a step,\n"
                "in absolute terms and in standard deviations",
                ("", "accuracy", "1", "2", "3", "1 (stds)", "2 (stds)", "3 (stds)"),
                noise,
            ),
        ]
    )


def plot(runs, theme):
    """The three measures during the first run, and the effect of noise in all runs."""
    fig, ((loss, change), (smooth, noise)) = figure(theme, 2, 2)
    for kind, hatch in (("without", ""), ("batch norm", "///")):
        deep, fast = (runs[0]["seen"][depth, kind] for depth in (8, 3))
        style = {"markersize": 4, "label": kind, **NORM_STYLES[kind == "batch norm"]}
        area = {"facecolor": style["color"], "alpha": 0.6, "hatch": hatch}
        loss.fill_between(deep["step"], deep["low"], deep["high"], label=kind, **area)
        change.plot(deep["step"], deep["gradient predictiveness"], **style)
        smooth.plot(fast["step"], fast["effective smoothness"], **style)
    loss.set(title="Batch norm: smaller loss variation", ylim=0)
    loss.set(ylabel="cross-entropy, lr/2 to 4 lr ahead")
    change.set(title="After 20 steps, its gradient changes less", yscale="log")
    change.set(ylabel="max |gradient ahead - g|")
    smooth.set(title="Relative to the step, too", ylim=0)
    smooth.set(ylabel="max |gradient ahead - g| / |step|")
    smooth.set_xlabel("step (3 layers, lr 0.2)")
    for axes in (loss, change):
        axes.set_xlabel("step (8 layers, lr 0.1)")
    for axes in (loss, change, smooth):
        axes.legend()
    plot_noise(noise, [run["noise"] for run in runs])
    return fig


def plot_noise(axes, runs):
    for kind, look in zip(runs[0], ("C1s", "C0o", "C2D")):
        x = [run[kind]["moved"].mean() for run in runs]
        y = [100 * run[kind]["accuracy"] for run in runs]
        axes.plot(x, y, look)
        style = {"textcoords": "offset points", "ha": "center"}
        axes.annotate(kind, (x[0], min(y)), (0, -16), **style)
    axes.set(title="Moving inputs do no harm", ylabel="test accuracy (%)")
    axes.set(xlabel="mean |change| of a unit's mean in a step", ylim=(0, 105))
    axes.set_xlim(-0.1, 0.45)

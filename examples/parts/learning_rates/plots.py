"""The map, its tables and the JSON file of learning_rates.py."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from support.plotting import NORM_STYLES, figure
from support.tables import table
from tinygrad_bn.draw.theme import THEMES

NAMES = {False: "without batch norm", True: "with batch norm"}
HE, RATE = 1, 0.1  # the scale and the learning rate of the two sections of the map
SHOWN_STEPS = 40  # of each training curve, in the JSON file


def report(measured):
    """The closing tables: the map without and with batch norm."""
    rates, found = measured["rates"], measured["accuracy"]
    head = ("weights / He", *(f"lr {rate:g}" for rate in rates))
    return "\n\n".join(
        table(
            f"Test accuracy after {measured['steps']} steps on {measured['data']}, "
            f"{NAMES[bn]}",
            head,
            [
                (f"{scale:g}", *(f"{found[bn, rate, scale]:.1%}" for rate in rates))
                for scale in measured["scales"]
            ],
        )
        for bn in NAMES
    )


def numbers(measured):
    """What --json saves: accuracy and thinned training curve of each network."""
    steps = measured["steps"]
    shown = np.unique(np.linspace(0, steps - 1, min(steps, SHOWN_STEPS)).astype(int))
    return {
        "quantity": "test accuracy, and the loss of the batch at some steps; "
        "weights as a multiple of Kaiming He's",
        "data": measured["data"],
        "steps": shown,
        "networks": [
            {
                "batch norm": bn, "lr": rate, "weights": scale,
                "accuracy": found, "loss": measured["losses"][bn, rate, scale][shown],
            }
            for (bn, rate, scale), found in measured["accuracy"].items()
        ],
    }  # fmt: skip


def plot(measured, theme):
    """Two maps, and two sections through them."""
    fig, (maps, (rates, scales)) = figure(theme, 2, 2, size=(4.2, 3.4))
    for axes, bn in zip(maps, NAMES):
        plot_map(axes, measured, bn, THEMES[theme])
    plot_section(rates, "rates", measured, {"scale": HE})
    rates.set(title="He's weights: a wider range of rates", xlabel="learning rate")
    rates.legend(loc="lower left")
    plot_section(scales, "scales", measured, {"rate": RATE})
    scales.set(title=f"Learning rate {RATE}: a wider range of scales")
    scales.legend(loc="center left")
    scales.set_xlabel("initial weights / He's")
    return fig


def plot_map(axes, measured, bn, colors):
    """Accuracies as numbers on a scale of colors."""
    rates, scales = measured["rates"], measured["scales"]
    found = measured["accuracy"]
    values = np.array([[found[bn, rate, scale] for rate in rates] for scale in scales])
    shades = LinearSegmentedColormap.from_list("", [colors.background, colors.direct])
    axes.imshow(values, shades, vmin=0, vmax=1.1, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = colors.background if value > 0.6 else colors.ink
        text = f"{100 * value:.0f}"
        axes.text(column, row, text, color=ink, ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(title=f"Test accuracy (%) {NAMES[bn]}")
    axes.set(xlabel="learning rate", ylabel="initial weights / He's")


def plot_section(axes, along, measured, fixed):
    """The accuracy along one axis of the map."""
    values = measured[along]
    for bn, style in NORM_STYLES.items():
        cases = [
            (bn, fixed.get("rate", value), fixed.get("scale", value))
            for value in values
        ]
        found = [100 * measured["accuracy"].get(case, np.nan) for case in cases]
        axes.plot(values, found, label=NAMES[bn], **style)
    axes.set(xscale="log", ylim=(0, 105), ylabel="test accuracy (%)")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()

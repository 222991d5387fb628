"""The table and the picture of diagnostics.py."""

import numpy as np

from support.measures import final_loss
from support.plotting import NORM_STYLES, figure
from support.tables import table


def growth(seen, field):
    """The standard deviation in the last layer relative to that in the first."""
    arrays = [getattr(layer, field) for layer in seen["layers"]]
    return float(arrays[-1].std() / arrays[0].std())


def ending(seen):
    """The dead units and the loss at the end, as the table shows them."""
    if seen["overflow"]:
        return "overflow", "overflow"
    return f"{seen['dead'][-1].mean():.1%}", final_loss(seen["loss"])


def report(found):
    """The closing table: the picture as numbers."""
    rows = [
        (
            LABELS[name], growth(seen, "values"), 1 / growth(seen, "gradient"),
            float(np.median(seen["ratios"])), *ending(seen),
        )
        for name, seen in found.items()
    ]  # fmt: skip
    return table(
        "First step: std of activations, layer 5 / layer 1, and of gradients, 1 / 5.\n"
        "All steps: median |update| / |weight|. Last step: dead units.\n"
        "Last quarter of the steps: median loss.",
        ("", "activations", "gradients", "updates", "dead units", "loss"),
        rows,
    )


LABELS = {
    "without": "without batch norm", "batch norm": "with batch norm",
    "He, lr 0.1": "without, but He's weights, lr 0.1",
}  # fmt: skip

STYLES = {
    "without": NORM_STYLES[False], "batch norm": NORM_STYLES[True],
    "He, lr 0.1": {"color": "C2", "linestyle": "-.", "marker": "D"},
}  # fmt: skip


def plot(found, theme):
    """Signals and gradients by layer, the updates of weights, and dead units."""
    fig, ((values, gradients), (updates, dead)) = figure(theme, 2, 2)
    for (name, seen), shift in zip(found.items(), (-0.1, 0, 0.1)):
        style = {"label": LABELS[name], **STYLES[name]}
        layers = np.arange(1, 1 + len(seen["layers"]))
        for axes, field in ((values, "values"), (gradients, "gradient")):
            sizes = [getattr(layer, field).std() for layer in seen["layers"]]
            axes.plot(layers, sizes, **style)
        # The last weight belongs to the linear layer after the ReLU layers.
        ratios = seen["ratios"][:, : len(layers)]
        low, middle, high = np.percentile(ratios, (10, 50, 90), axis=0)
        bars = (middle - low, high - middle)
        updates.errorbar(layers + shift, middle, bars, capsize=3, **style)
        # A curve ends in a cross where the loss overflows.
        style |= {"marker": "X" if seen["overflow"] else "", "markersize": 9}
        style["label"] += ": overflow" if seen["overflow"] else ""
        percent = 100 * seen["dead"].mean(axis=1)
        dead.plot(seen["step"], percent, markevery=[-1], **style)
    values.set(title="First step: small weights, faint signals", yscale="log")
    values.set_ylabel("std of activations")
    gradients.set(title="First step: and faint gradients", yscale="log")
    gradients.set_ylabel("std of dL/d(activation)")
    updates.set(title="How far a step of SGD moves weights", yscale="log")
    updates.set_ylim(top=1)
    updates.set_ylabel("|update| / |weight|, 10 to 90% of steps")
    dead.set(title="Units die after a bad start without it", ylim=(-2, 100))
    dead.set(xlabel="step of SGD", ylabel="dead units (%), all layers")
    for axes in (values, gradients, updates):
        axes.set_xlabel("layer, from the input")
        axes.set_xticks(layers)
    for axes in fig.axes:
        axes.legend(fontsize=8)
    return fig

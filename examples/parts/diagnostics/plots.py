"""The table and the picture of diagnostics.py."""

import numpy as np

from support.plotting import figure
from support.tables import table


def growth(seen, field):
    """The standard deviation in the last layer relative to that in the first."""
    arrays = [getattr(layer, field) for layer in seen["layers"]]
    return float(arrays[-1].std() / arrays[0].std())


def report(found):
    """The closing table: the picture as numbers."""
    rows = [
        (
            name, growth(seen, "values"), 1 / growth(seen, "gradient"),
            float(np.median(seen["ratios"])), f"{seen['dead'][-1].mean():.1%}",
            float(seen["loss"][-1]),
        )
        for name, seen in found.items()
    ]  # fmt: skip
    return table(
        "First step: std of activations, layer 5 / 1, and of gradients, layer 1 / 5.\n"
        "All steps: median |update| / |weight|. Last step: dead units and loss.",
        ("", "activations", "gradients", "updates", "dead", "loss"),
        rows,
    )


def plot(found, theme):
    """Without batch norm on the left, with it on the right."""
    fig, axes = figure(theme, 4, 2, size=(4.2, 2.4), sharex="row", sharey="row")
    for (name, seen), column in zip(found.items(), axes.T):
        plot_column(column, name, seen)
    labels = (
        "fraction of values per decade", "fraction of values per decade",
        "|update| / |weight|", "dead units (%)",
    )  # fmt: skip
    for panel, label in zip(axes[:, 0], labels):
        panel.set_ylabel(label)
    axes[0, 1].legend(loc="upper left")
    return fig


def plot_column(column, name, seen):
    values, gradients, updates, dead = column
    layers = seen["layers"]
    for i, layer in enumerate(layers, 1):
        plot_sizes(values, layer.values, f"layer {i}")
        plot_sizes(gradients, layer.gradient, f"layer {i}")
    # The last weight belongs to the linear layer behind the ReLU layers.
    updates.plot(seen["step"], seen["ratios"][:, : len(layers)])
    dead.plot(seen["step"], 100 * seen["dead"])
    up, down = growth(seen, "values"), 1 / growth(seen, "gradient")
    values.set(title=f"{name}: std, layer 5 / layer 1 = {up:.2g}")
    values.set(xlabel="log10 |activation| where not 0, first step")
    gradients.set(title=f"{name}: std, layer 1 / layer 5 = {down:.2g}")
    gradients.set(xlabel="log10 |gradient of activation| where not 0, first step")
    updates.set(title=f"{name}: how far a step moves weights", xlabel="step of SGD")
    updates.set(yscale="log")
    dead.set(title=f"{name}: {seen['dead'][-1].mean():.0%} dead in the end")
    dead.set(xlabel="step of SGD")


def plot_sizes(panel, array, label):
    """The histogram of the orders of magnitude in an array."""
    density, edges = np.histogram(np.log10(np.abs(array[array != 0])), 40, density=True)
    panel.plot((edges[1:] + edges[:-1]) / 2, density, label=label)

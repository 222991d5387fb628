"""The picture and the tables of gradient_accumulation.py."""

import numpy as np

from parts.gradient_accumulation.norms import BATCH, FROZEN, GHOST, LAYER, NONE
from support.plotting import figure
from support.tables import table

MOMENTUM = 0.1  # the weight of a new batch in the running statistics
NAMES = {
    NONE: "no norm",
    LAYER: "layer norm",
    FROZEN: "batch norm, frozen\nstatistics",
    GHOST: "batch norm, ghost\nbatches of 16 rows",
    BATCH: "batch norm",
}


def report(measured):
    """The closing tables: deviations, running statistics, and accuracies."""
    groups, accuracies = measured["groups"][BATCH], measured["accuracy"]
    deviations, cosines = measured["deviations"][BATCH]
    columns = [f"{n} rows" for n in groups]
    by_norm = [
        (NAMES[norm].replace("\n", " "), f"{measured['deviations'][norm][0].max():.1g}")
        for norm in NAMES
    ]
    batch_norm = [
        ("relative deviation", *(f"{value:.3g}" for value in deviations)),
        ("cosine", *(f"{value:.3f}" for value in cosines)),
        ("updates of running statistics", *(measured["updates"][n] for n in groups)),
        (
            "weight of the old running statistics",
            *(f"{(1 - MOMENTUM) ** measured['updates'][n]:.3f}" for n in groups),
        ),
    ]
    sizes = [n for norm, n in accuracies if norm == GHOST]
    trained = [("batch norm", *(f"{accuracies[GHOST, n]:.1%}" for n in sizes))]
    layer = [f"{a:.1%}" for (norm, _), a in accuracies.items() if norm == LAYER]
    trained.append(("layer norm", *layer * len(sizes)))
    return "\n\n".join(
        [
            table(
                "Largest relative deviation of the accumulated gradient from that of\n"
                "the batch of 128 rows",
                ("", "over group sizes"),
                by_norm,
            ),
            table("Batch norm, accumulated in groups of", ("", *columns), batch_norm),
            table(
                "Test accuracy after training, accumulated in groups of",
                ("", *(f"{n} rows" for n in sizes)),
                trained,
            ),
        ]
    )


def plot(measured, theme):
    """Deviation and direction by group size, what helps, and accuracy."""
    fig, ((deviation, cosine), (remedies, accuracy)) = figure(theme, 2, 2)
    groups = measured["groups"][BATCH]
    deviations, cosines = measured["deviations"][BATCH]
    deviation.plot(groups, 100 * deviations, marker="o", label="batch norm")
    deviation.set(title="Batch norm: groups change the gradient", yscale="log")
    deviation.set_ylabel("deviation from the batch's (%)")
    deviation.set_yticks([30, 100, 1000, 10000], ["30", "100", "1000", "10000"])
    cosine.plot(groups, cosines, marker="o", label="batch norm")
    cosine.axhline(1, color="C4", linewidth=1, linestyle=":")
    cosine.set(title="Batch norm: groups also turn it", ylim=(-0.1, 1.05))
    cosine.set_ylabel("cosine with the batch's gradient")
    plot_remedies(remedies, measured["deviations"])
    plot_accuracy(accuracy, measured["accuracy"])
    for axes in (deviation, cosine):
        by_group_size(axes, groups)
    return fig


def by_group_size(axes, groups):
    axes.set(xscale="log", xlabel="rows per group (batch: 128)")
    axes.set_xticks(groups, groups)
    axes.minorticks_off()


def plot_remedies(axes, deviations):
    largest = [deviations[norm][0].max() for norm in NAMES]
    positions = np.arange(len(NAMES))
    axes.hlines(positions, 1e-17, largest, color="C0", linewidth=1.8)
    axes.plot(largest, positions, "o", color="C0")
    axes.set_yticks(positions, list(NAMES.values()))
    axes.set(title="Where accumulation is exact", xscale="log", xlim=(1e-17, 1e4))
    axes.set_xticks([1e-16, 1e-8, 1], ["1e-16\n(rounding)", "1e-8", "1"])
    axes.set_xlabel("largest relative deviation")
    axes.set_ylim(-0.6, len(NAMES) - 0.4)


def plot_accuracy(axes, accuracies):
    sizes = [n for norm, n in accuracies if norm == GHOST]
    found = [100 * accuracies[GHOST, n] for n in sizes]
    axes.plot(sizes, found, marker="o", label="batch norm")
    (layer,) = (a for (norm, _), a in accuracies.items() if norm == LAYER)
    axes.plot(sizes, [100 * layer] * len(sizes), label="layer norm, any group")
    by_group_size(axes, sizes)
    axes.set(title="Groups of 16 rows train well", ylim=(0, 105))
    axes.set_ylabel("test accuracy (%)")
    axes.legend(loc="lower right")

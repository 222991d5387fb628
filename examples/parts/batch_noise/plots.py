"""The tables and the picture of batch_noise.py."""

import numpy as np
from matplotlib.ticker import LogLocator

from support.measures import largest
from support.plotting import figure
from support.tables import table


def report(measured):
    """The closing tables: one unit and its theory, and the classifiers."""
    units = [
        (f"N = {n}", f"{error:.4g} ({e:.4g})", f"{shrinkage:.4f} ({s:.4f})")
        for n, error, e, shrinkage, s in zip(
            measured["sizes"],
            measured["error of mean"],
            measured["expected error"],
            measured["shrinkage"],
            measured["expected shrinkage"],
        )
    ]
    ghosts = [
        (
            f"{optimizer}, groups of {group}",
            f"{np.mean(measured['test errors'][optimizer, group]):.2%}",
            int(np.sum(added < 0)),
            int(np.sum(added > 0)),
        )
        for (optimizer, group), added in measured["added errors"].items()
    ]
    count = len(next(iter(measured["added errors"].values())))
    seeds = f"{count} seed{'s' * (count > 1)}"
    return "\n\n".join(
        [
            table(
                "Batches of N from N(0, 2^2), measured (theory)",
                ("", "std of the batch mean", "gamma / s"),
                units,
            ),
            report_pairs(measured),
            table(
                f"Ghost batches: mean over {seeds}, and the number of seeds\n"
                "in which they are better or worse than groups of 128",
                ("", "test error", "better", "worse"),
                ghosts,
            ),
        ]
    )


def report_pairs(measured):
    """How well the formulas for batches of two hold, and what they amount to."""
    d, eps = measured["d"], min(measured["pairs"])
    deviation = max(
        largest(x_hat - d / np.sqrt(d**2 + eps))
        for eps, x_hat in measured["pairs"].items()
    )
    return (
        f"Batches of two: x_hat = d / sqrt(d^2 + eps), up to {deviation:.1g}.\n"
        "Of dL/dx, a share of eps / (d^2 + eps) is left: "
        f"{eps / (1 + eps):.1g} at d = 1, eps {eps:g}."
    )


def plot(measured, name, theme):
    """The error of the batch mean, shrinkage, batches of two, and ghost batches."""
    fig, axes = figure(theme, 3, 2)
    mean, shrink, two, left, ghost, noisiest = axes.flat
    plot_sizes(mean, shrink, measured)
    for eps, x_hat in measured["pairs"].items():
        two.plot(measured["d"], x_hat, label=f"eps = {eps:g}")
        left.plot(
            measured["d"], measured["pair gradients"][eps][0], label=f"eps = {eps:g}"
        )
    two.set(title="A batch of two: only a sign is left", ylabel="x̂ of the first row")
    left.set(title="A batch of two: a gradient only near 0")
    left.set_ylabel("share of dL/dx that is left")
    for axes in (two, left):
        axes.set_xlabel("d, half the difference of the two rows")
        axes.legend()
    for axes, optimizer in ((ghost, "SGD"), (noisiest, "Adam")):
        plot_ghosts(axes, measured, optimizer)
        axes.set_ylabel(f"error / error without groups ({name})")
    return fig


def plot_sizes(mean, shrink, measured):
    n = measured["sizes"]
    mean.plot(n, measured["expected error"], label="theory: s / sqrt(N)")
    mean.plot(n, measured["error of mean"], "o", color="C1", label="measured")
    mean.set(title="The mean of a batch is noisy", yscale="log")
    mean.set(ylabel="std of the batch mean (s = 2)")
    mean.set_yticks([0.2, 0.5, 1], ["0.2", "0.5", "1"])
    shrink.plot(n, measured["expected shrinkage"], label="theory: E[s_B] / s")
    shrink.plot(n, measured["shrinkage"], "o", color="C1", label="learned")
    shrink.set(title="The noise shrinks the learned scale", ylim=(0.5, 1.02))
    shrink.set(ylabel="gamma / s (no noise: 1)")
    for axes in (mean, shrink):
        axes.set(xlabel="batch size N", xscale="log")
        axes.set_xticks(n, n)
        axes.minorticks_off()
        axes.legend()


def plot_ghosts(axes, measured, optimizer):
    """The error of smaller groups relative to that of the whole batch, by seed."""
    errors, (whole, *noisy) = measured["test errors"], measured["groups"]
    ratios = [
        np.divide(errors[optimizer, group], errors[optimizer, whole]) for group in noisy
    ]
    axes.plot(noisy, np.mean(ratios, axis=1), label="mean")
    style = {"color": "C1", "fillstyle": "none"}
    seeds, *_ = axes.plot(noisy, ratios, "o", **style)
    seeds.set_label("each seed")
    axes.axhline(1, color="C4", linewidth=1, linestyle="-")
    axes.set(title=f"{optimizer}: small ghost batches do harm")
    axes.set(xscale="log", yscale="log", ylim=(0.8, 4.5))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(noisy, noisy)
    axes.minorticks_off()
    axes.set_xlabel(f"rows normalized together, of {whole}")
    axes.legend()

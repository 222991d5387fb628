"""The tables and the picture of running_statistics.py."""

import numpy as np

from support.measures import final_loss
from support.plotting import circles, figure
from support.tables import span, table


def report(measured):
    """The closing tables: measured numbers and the theory."""
    same = measured["same batch"][0]
    rows = [
        (f"running {name} after 60 times the same batch", values[-1], theory[-1])
        for name, values, theory in zip(("mean", "variance"), *same.values())
    ]
    rows += [
        (f"std of the running mean, p = {p}", found[0], measured["spread theory"][p])
        for p, found in measured["spread"].items()
    ]
    rows += [
        (
            f"|eval - training| / |training|, N = {n}, BN layers: {layers}",
            found[0][-1],
            f"{measured['gap theory'][n, layers]:.4g}"
            + (" (leading order)" if layers > 1 else ""),
        )
        for (n, layers), found in measured["gap"].items()
    ]
    trained = [
        (
            f"{case}, lr {lr}",
            span(final_loss(run["losses"]) for run in runs),
            span(run["b"] for run in runs),
        )
        for (case, lr), runs in measured["training"].items()
    ]
    head = ("normalized by", "median loss, last quarter", "|b|")
    return "\n\n".join(
        [
            table("Running statistics", ("", "measured", "theory"), rows),
            table("Training, over seeds", head, trained),
        ]
    )


def plot(measured, theme):
    """Three panels on running statistics, and one on training with them."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    plot_same_batch(a, **measured["same batch"][0])
    plot_spread(b, measured["spread"], measured["spread theory"])
    plot_gap(c, measured["gap"], measured["gap theory"])
    plot_losses(d, measured["training"])
    return fig


def plot_same_batch(axes, measured, theory):
    for name, values, expected in zip(("mean", "variance"), measured, theory):
        axes.plot(values, label=f"running {name}")
        label = "theory" if name == "variance" else None
        circles(axes, range(len(values)), expected, label)
    axes.set(title="The same batch again: they converge", xlabel="batches seen")
    axes.set_ylabel("running statistic of one channel")
    axes.legend()


def plot_spread(axes, measured, theory):
    first = [found[0] for found in measured.values()]
    axes.loglog(list(measured), first, label="measured, 1000 channels")
    circles(axes, list(theory.keys()), list(theory.values()), "theory")
    axes.set(title="The larger p, the noisier")
    axes.set(xlabel="p, weight of the new batch", ylabel="std of the running mean / σ")
    axes.set_xticks(list(measured), list(measured))
    axes.set_yticks([0.02, 0.05, 0.1, 0.2], [0.02, 0.05, 0.1, 0.2])
    axes.minorticks_off()
    axes.legend()


def plot_gap(axes, gaps, theory):
    for n in (8, 32, 128):
        (line,) = axes.plot(gaps[n, 1][0], label=f"N = {n}")
        axes.axhline(theory[n, 1], color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(title="Evaluation differs from training by 1 / (2N)", yscale="log")
    axes.set(
        xlabel="times the same batch was seen",
        ylabel="output: |eval - train| / |train|",
    )
    axes.legend(title="dotted: 1 − √(1 − 1/N)")


def plot_losses(axes, training):
    """The median over seeds of the final loss, by learning rate."""
    cases = list(dict.fromkeys(case for case, _ in training))
    for case, marker in zip(cases, "osD"):
        rates = [lr for c, lr in training if c == case]
        losses = [
            np.median([final_loss(run["losses"]) for run in training[case, lr]])
            for lr in rates
        ]
        axes.plot([f"{lr:g}" for lr in rates], losses, marker=marker, label=case)
    axes.set(title="With p = 0.1, training fails at lr 1", yscale="log")
    axes.set(xlabel="learning rate", ylabel="training loss at the end")
    axes.set_yticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"])
    axes.minorticks_off()
    axes.legend(title="normalized by")

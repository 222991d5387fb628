"""The tables and the picture of bias_is_redundant.py."""

import numpy as np
from lab import figure, span, table


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    pairs = [
        (
            f"{optimizer}{'' if affine else ', no gamma and beta'}",
            span(abs(np.subtract(*run["losses"])).max() for run in runs),
            span(run["apart"].max() for run in runs),
            "0",
        )
        for (optimizer, affine), runs in measured["pairs"].items()
    ]
    drifts = [
        (f"{optimizer}, {dtype}", span(run[-1] for run in runs))
        for (optimizer, dtype), runs in measured["drifts"].items()
    ]
    dead = ("batch norm", "Var[x] constant")
    alive = [
        (case, value, "0" if case in dead else "not 0")
        for case, value in measured["liveliness"].items()
    ]
    head = ("", "losses", "parameters", "theory")
    return "\n\n".join(
        [
            table("With and without b, at most apart by", head, pairs),
            table("Largest dead bias after training", ("", "measured"), drifts),
            table("|dL/db| / sum |dL/dx|", ("", "measured", "theory"), alive),
        ]
    )


def plot(measured, theme):
    """Training with and without b, how dead b stays, and where it is alive."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("With b or without: the same training")
    with_b, without = measured["pairs"]["Adam", True][0]["losses"]
    a.plot(with_b, label="with b")
    k = np.arange(0, len(without), len(without) // 20 + 1)
    a.plot(k, without[k], "o", color="C1", fillstyle="none", label="without")
    a.set(ylabel="cross-entropy of a batch (Adam)", yscale="log")

    b.set_title("All that tells them apart is rounding")
    for (optimizer, affine), runs in measured["pairs"].items():
        if affine:
            b.plot(runs[0]["apart"], label=optimizer)
    b.set_ylabel("largest |difference| of a parameter")

    c.set_title("A dead bias moves where noise is felt")
    for (optimizer, dtype), runs in measured["drifts"].items():
        c.plot(runs[0], label=f"{optimizer}, {dtype}")
    c.set_ylabel("largest |entry| of a hidden b")
    for axes in (b, c):
        # Before the first step there is nothing, which has no place on such an axis.
        axes.set_yscale("log", nonpositive="mask")
    for axes in (a, b, c):
        axes.set_xlabel("step")
        axes.legend()
    plot_liveliness(d, measured["liveliness"])
    return fig


def plot_liveliness(axes, liveliness):
    """One bar per case: how much of what arrives at x is left for b."""
    axes.set_title("Where b is dead, and where alive")
    cases, values = zip(*reversed(liveliness.items()))
    axes.bar_label(axes.barh(cases, values), fmt=" %.2g")
    axes.set(xlabel="|dL/db| / sum of |dL/dx|", xlim=(0, 1.2 * max(values)))
    axes.grid(visible=False, axis="y")

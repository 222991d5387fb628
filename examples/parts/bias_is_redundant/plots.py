"""The tables and the picture of bias_is_redundant.py."""

import numpy as np

from support.plotting import figure
from support.tables import span, table

NO_GRADIENT = ("batch norm", "Var[x] constant")


def named(optimizer, affine):
    return optimizer if affine else f"{optimizer}, no gamma and beta"


def report(measured):
    """The closing tables: measured numbers and the theory."""
    pairs = [
        (
            f"{named(*case)}, float64",
            span(abs(np.subtract(*run["losses"])).max() for run in runs),
            span(run["differences"].max() for run in runs),
            "0",
        )
        for case, runs in measured["pairs"].items()
    ]
    pairs += [
        (
            f"{optimizer}, float32",
            span(abs(np.subtract(*run["losses"])).max() for run in runs),
            span(run["differences"].max() for run in runs),
            "rounding",
        )
        for optimizer, runs in measured["float32 pairs"].items()
    ]
    drifts = [
        (f"{optimizer}, {dtype}", span(run[-1] for run in runs))
        for (optimizer, dtype), runs in measured["drifts"].items()
    ]
    left = [
        (case, value, "0" if case in NO_GRADIENT else "not 0")
        for case, value in measured["gradient left"][0].items()
    ]
    head = ("", "losses", "parameters", "theory")
    return "\n\n".join(
        [
            table(
                "Largest differences in training, with b minus without b",
                head,
                pairs,
            ),
            table(
                "Largest |entry| of b after training, though its gradient is 0",
                ("", "measured"),
                drifts,
            ),
            table(
                "|dL/db| / sum of |dL/dx|, by what follows x = u + b",
                ("", "measured", "theory"),
                left,
            ),
        ]
    )


def plot(measured, theme):
    """Training with and without b, the drift of b, and where b gets a gradient."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("In float64, the same with b and without")
    with_b, without = measured["pairs"]["Adam", True][0]["losses"]
    a.plot(with_b, label="with b")
    k = np.arange(0, len(without), len(without) // 20 + 1)
    a.plot(k, without[k], "o", color="C1", fillstyle="none", label="without b")
    a.set(ylabel="cross-entropy of a batch (Adam)", yscale="log")

    b.set_title("Adam amplifies the rounding")
    for i, (optimizer, runs) in enumerate(measured["float32 pairs"].items()):
        for precision, style, found in (
            ("float32", "-", runs[0]),
            ("float64", "--", measured["pairs"][optimizer, True][0]),
        ):
            label = f"{optimizer}, {precision}"
            b.plot(found["differences"], style, color=f"C{i}", label=label)
    b.set(ylabel="largest |difference| of a parameter", ylim=(1e-17, 1e7))

    c.set_title("Adam in float32 moves b by rounding")
    for (optimizer, dtype), runs in measured["drifts"].items():
        c.plot(runs[0], label=f"{optimizer}, {dtype}")
    c.set_ylabel("largest |entry| of a hidden b")
    for axes in (b, c):
        # Before the first step the values are 0, which a logarithmic axis cannot show.
        axes.set_yscale("log", nonpositive="mask")
    for axes in (a, b, c):
        axes.set_xlabel("step")
        columns = {"ncols": 2, "columnspacing": 1, "handlelength": 1.7}
        axes.legend(fontsize=8, **(columns if axes is b else {}))
    plot_gradient_left(d, measured["gradient left"][0])
    return fig


def plot_gradient_left(axes, left):
    """One bar per case: how much of the gradient that arrives at x is left for b."""
    axes.set_title("Where b learns, and where not")
    cases, values = zip(*reversed(left.items()))
    axes.bar_label(axes.barh(cases, values), fmt=" %.2g")
    axes.set(xlabel="|dL/db| / sum of |dL/dx|", xlim=(0, 1.2 * max(values)))
    axes.grid(visible=False, axis="y")

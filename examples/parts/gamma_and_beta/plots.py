"""The tables and the picture of gamma_and_beta.py."""

import math

import numpy as np

import tinygrad_bn as tg
from support.plotting import circles, figure
from support.tables import span, table


def report(measured):
    """The closing tables: measured numbers and the theory."""
    losses = measured["losses"]
    single = [
        ("batch norm as the identity: error", measured["identity"][0], "0"),
        (
            "fraction of N(0, 1) within [-2, 2]",
            measured["within 2"],
            math.erf(math.sqrt(2)),
        ),
    ]
    single += [
        (
            f"R² of a linear fit to the sigmoid, std {std}",
            value,
            measured["r squared theory"][std],
        )
        for std, value in measured["r squared"].items()
    ]
    fits = [
        (
            name,
            floor,
            span(losses[name, False]),
            span(losses[name, True]),
            float(np.median(losses[name, True])),
        )
        for name, floor in measured["floor"].items()
    ]
    head = (
        "target", "floor", "without gamma and beta", "with gamma and beta", "median"
    )  # fmt: skip
    return "\n\n".join(
        [
            table("Exact statements", ("", "measured", "expected"), single),
            table("Mean squared error after training, over seeds", head, fits),
        ]
    )


def plot(measured, theme):
    """The linear part of a sigmoid, the floor, and the fit of each target."""
    fig, ((a, b), *rows) = figure(theme, 3, 2)
    plot_linear_fit(a, measured["line"])
    plot_floor(b, measured["floor"], measured["losses"])
    for axes, name in zip(np.ravel(rows), measured["targets"]):
        plot_fits(axes, name, measured)
    rows[0][0].legend()
    return fig


def plot_linear_fit(axes, line):
    """The sigmoid over the values that batch norm alone gives it."""
    z = np.linspace(-6, 6, 241)
    axes.set_title("On N(0, 1), sigmoid is nearly straight")
    axes.plot(z, tg.sigmoid(z), label="sigmoid(z)")
    axes.plot(z, np.polyval(line, z), label="linear fit on N(0, 1)")
    density = np.exp(-(z**2) / 2) / 3
    axes.fill_between(z, density, color="C4", alpha=0.3, label="N(0, 1), not to scale")
    axes.set(xlabel="z, in standard deviations", ylabel="sigmoid(z)")
    axes.set_ylim(-0.02, 1.05)
    axes.legend()


def plot_floor(axes, floor, losses):
    """The floor of each target, and the error after training, seed by seed."""
    axes.set_title("Without gamma and beta: a floor")
    names = list(floor)
    style = {"s": 500, "marker": "_", "color": "C4"}
    axes.scatter(names, list(floor.values()), label="floor", **style)
    for affine, label, style in ((False, "without", "C1o"), (True, "with them", "C0s")):
        values = [losses[name, affine] for name in names]
        points = axes.plot(names, values, style, linestyle="none", fillstyle="none")
        points[0].set_label(label)
    axes.set(xlabel="target", ylabel="mean squared error after training")
    axes.set(yscale="log", xlim=(-0.5, 3.5))
    axes.legend()


def plot_fits(axes, name, measured):
    """A target, the outputs of the first networks, and the best fit in their span."""
    x, target = measured["x"], measured["targets"][name]
    even = np.allclose(target, target[::-1])
    axes.set_title(f"{name}: without, {'a constant' if even else 'one sigmoid'}")
    # The target is wide and pale, so that it also shows behind a perfect fit.
    pale = {"color": "C2", "linestyle": "-", "linewidth": 6, "alpha": 0.4}
    axes.plot(x, target, label="target", **pale)
    axes.plot(x, measured["fits"][name, True][0], "C0-", label="with gamma and beta")
    axes.plot(x, measured["fits"][name, False][0], "C1--", label="without")
    circles(axes, x, measured["best"][name], "best without")
    axes.set(xlabel="input x", ylabel="output of the network")

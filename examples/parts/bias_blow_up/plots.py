"""The tables and the pictures of bias_blow_up.py."""

import numpy as np

from parts.bias_blow_up.growth import BETA, FULL, MEAN
from support.plotting import circles, figure
from support.tables import span, table


def report(measured):
    """The closing tables: measured numbers and the theory."""
    routes = [
        (case, *(entry for _, (entry,), _ in explanation.rows()))
        for case, explanation in measured["routes"].items()
    ]
    networks = [
        (
            f"{name} network, {case}",
            span(path.final_loss for path in paths),
            span(path.b[-1] for path in paths),
            span(path.growth for path in paths),
        )
        for name in ("sigmoid", "ReLU")
        for case, paths in measured[name.lower()].items()
    ]
    cosines = [(case, span(values)) for case, values in measured["cosines"].items()]
    head = ("", "direct", "E[x]", "Var[x]", "Var[x], E[x]", "total")
    return "\n\n".join(
        [
            table("The gradient of b, by its routes", head, routes),
            report_unit(measured["units"][0], measured["theory"]),
            table(
                f"Networks, over seeds (loss of guessing: {measured['chance']:.3f})",
                ("", "median loss, last quarter", "|b|", "|W|, end / start"),
                networks,
            ),
            table(
                "Largest |cosine| between a unit's weights and their gradient",
                ("", "measured"),
                cosines,
            ),
        ]
    )


def report_unit(unit, theory):
    """The table of the linear unit."""
    rows = [
        (
            f"b, trained with w fixed: {case}",
            path.b[-1],
            float(theory["line"][case][-1]) if case in theory["line"] else "near 0",
        )
        for case, path in unit["line"].items()
    ]
    parts = {"root": "both constant", "rounds": "statistics renewed once per round"}
    for part, title in parts.items():
        ends = zip(("|w|", "b", "loss"), unit[part], theory[part])
        rows += [(f"{name}: {title}", a[-1], b[-1]) for name, a, b in ends]
    rows.append(("loss at the end of a round", unit["converged"].max(), 0.0))
    return table("One unit, before the last step", ("", "measured", "theory"), rows)


def plot_unit(measured, theme):
    """One unit: the straight line, what stops it, the square root, the exponential."""
    unit, theory = measured["units"][0], measured["theory"]
    line, k = unit["line"], np.arange(len(unit["root"].w))
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("E[x] constant: b climbs, the loss stays")
    a.plot(line[MEAN].b, label="b")
    a.plot(line[MEAN].loss, label="loss")
    a.plot(line[FULL].b, label="b with full batch norm")
    circles(a, k, theory["line"][MEAN], r"$-k\,lr\,S$")
    b.set_title("A learnable beta behind it stops b")
    b.plot(line[BETA].b, label="b")
    b.plot(line[BETA].loss, label="loss")
    circles(b, k, theory["line"][BETA], r"$C\,(1 - (1 - lr)^k)$")
    c.set_title("Var[x] constant, too: a square root")
    d.set_title("Renewed once per round: |w| doubles")
    formulas = {"root": r"$\sqrt{1 + 2\,lr\,(TAU-1)\,k}$", "rounds": r"$TAU^{\,round}$"}
    for axes, part in ((c, "root"), (d, "rounds")):
        for name, values in zip(("|w|", "b", "loss"), unit[part]):
            axes.plot(values, label=name)
        w = theory[part].w
        circles(axes, np.arange(len(w)), w, formulas[part])
    c.set_ylim(top=1.3 * unit["root"].w[-1])
    d.set_yscale("log", base=2, nonpositive="mask")
    for axes in (a, b, c, d):
        ylabel = "b and the loss" if axes in (a, b) else "|w|, b and the loss"
        axes.set(xlabel="step k", ylabel=ylabel)
        axes.legend()
    d.set_xlabel("rounds of 40 steps")
    return fig


def plot_networks(measured, theme):
    """|b|, |W| and the loss of the sigmoid networks, and the loss of the ReLU ones."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    sigmoid, relu, nats = measured["sigmoid"], measured["relu"], "cross-entropy in nats"
    a.set_title("Only E[x] protects b")
    # A logarithmic axis cannot show the 0 at which biases start.
    plot_cases(a, sigmoid, lambda path: np.maximum(path.b, 1e-17), "|b|, hidden layers")
    b.set_title("E[x] constant: W grows most")
    plot_cases(b, sigmoid, lambda path: path.w / path.w[0], "|W| / |W| at the start")
    b.set_yscale("linear")
    c.set_title("E[x] constant: no learning without beta")
    plot_cases(c, sigmoid, lambda path: path.loss, nats)
    style = {"color": "C4", "linestyle": ":", "linewidth": 1.2}
    chance = c.axhline(measured["chance"], label="guessing", **style)
    c.legend(handles=[chance], loc="lower left")
    d.set_title("Frozen statistics: ReLUs blow up")
    plot_cases(d, relu, lambda path: path.loss, nats)
    d.set_ylim(1e-3, 1e6)
    a.legend()
    d.legend()
    return fig


def plot_cases(axes, paths_of_cases, values_of, label):
    """One style per case and one line per seed, of which the first is thick."""
    for case, (first, *others) in paths_of_cases.items():
        (line,) = axes.plot(values_of(first), label=case)
        for path in others:
            style = {"color": line.get_color(), "linestyle": line.get_linestyle()}
            axes.plot(values_of(path), linewidth=0.8, alpha=0.4, **style)
    axes.set(xlabel="step", ylabel=label, yscale="log")

"""The tables and the pictures of bias_blow_up.py."""

import numpy as np
from growth import BETA, FULL, MEAN
from lab import circles, figure, span, table


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    routes = [
        (way, *(entry for _, (entry,), _ in explanation.rows()))
        for way, explanation in measured["routes"].items()
    ]
    theory = measured["line theory"]
    unit = [
        (
            f"b alone: {case}",
            path.b[-1],
            float(theory[case][-1]) if case in theory else "near 0",
        )
        for case, path in measured["line"].items()
    ]
    for part, what in (("root", "both constant"), ("rounds", "frozen in rounds")):
        ends = zip(("|w|", "b", "loss"), measured[part], measured[f"{part} theory"])
        unit += [(f"{what}: {name}", a[-1], b[-1]) for name, a, b in ends]
    unit.append(("  loss at the end of a round", measured["converged"].max(), 0.0))
    networks = [
        (
            f"{kind}: {way}",
            span(path.late_loss for path in paths),
            span(path.b[-1] for path in paths),
            span(path.w[-1] / path.w[0] for path in paths),
        )
        for kind in ("sigmoid", "relu")
        for way, paths in measured[kind].items()
    ]
    cosines = [(way, span(values)) for way, values in measured["cosines"].items()]
    head = ("", "direct", "E[x]", "Var[x]", "Var[x], E[x]", "total")
    return "\n\n".join(
        [
            table("The gradient of b, by its routes", head, routes),
            table("One unit, before the last step", ("", "measured", "theory"), unit),
            table(
                f"Networks, over seeds (chance: {measured['chance']:.3f})",
                ("", "late loss", "|b|", "|W| grew by"),
                networks,
            ),
            table("Largest cosine of weights and gradient", ("", "measured"), cosines),
        ]
    )


def plot_unit(measured, theme):
    """One unit: the straight line, what stops it, the square root, the exponential."""
    line, theory = measured["line"], measured["line theory"]
    k = np.arange(len(measured["root"].w))
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("E[x] constant: b climbs, the loss stays")
    a.plot(line[MEAN].b, label="b")
    a.plot(line[MEAN].loss, label="loss")
    a.plot(line[FULL].b, label="b with full batch norm")
    circles(a, k, theory[MEAN], r"$-k\,lr\,S$")
    b.set_title("A learnable beta behind it stops b")
    b.plot(line[BETA].b, label="b")
    b.plot(line[BETA].loss, label="loss")
    circles(b, k, theory[BETA], r"$C\,(1 - (1 - lr)^k)$")
    c.set_title("Var[x] constant too: like a square root")
    d.set_title("Frozen in rounds: doubled in each")
    formulas = {"root": r"$\sqrt{1 + 2\,lr\,(TAU-1)\,k}$", "rounds": r"$TAU^{\,round}$"}
    for axes, part in ((c, "root"), (d, "rounds")):
        for name, values in zip(("|w|", "b", "loss"), measured[part]):
            axes.plot(values, label=name)
        w = measured[f"{part} theory"].w
        circles(axes, np.arange(len(w)), w, formulas[part])
    c.set_ylim(top=1.3 * measured["root"].w[-1])
    d.set_yscale("log", base=2, nonpositive="mask")
    for axes in (a, b, c, d):
        ylabel = "b and the loss" if axes in (a, b) else "|w|, b and the loss"
        axes.set(xlabel="step k", ylabel=ylabel)
        axes.legend()
    d.set_xlabel("rounds of 40 steps taken")
    return fig


def plot_networks(measured, theme):
    """The networks: |b|, |W| and loss of the one kind, and the loss of the other."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    sigmoid, relu, nats = measured["sigmoid"], measured["relu"], "cross-entropy in nats"
    a.set_title("Only E[x] protects b")
    # A logarithmic axis has no place for the 0 at which biases begin.
    plot_ways(a, sigmoid, lambda path: np.maximum(path.b, 1e-17), "|b|, hidden layers")
    b.set_title("E[x] constant: W grows most")
    plot_ways(b, sigmoid, lambda path: path.w / path.w[0], "|W| / |W| at the start")
    b.set_yscale("linear")
    c.set_title("E[x] constant: no learning without beta")
    plot_ways(c, sigmoid, lambda path: path.loss, nats)
    style = {"color": "C4", "linestyle": ":", "linewidth": 1.2}
    chance = c.axhline(measured["chance"], label="chance", **style)
    c.legend(handles=[chance], loc="lower left")
    d.set_title("Frozen statistics: ReLUs blow up")
    plot_ways(d, relu, lambda path: path.loss, nats)
    d.set_ylim(1e-3, 1e6)
    a.legend()
    d.legend()
    return fig


def plot_ways(axes, paths_of_ways, values_of, label):
    """One line per seed, the first one thick, and one style per way."""
    for way, (first, *others) in paths_of_ways.items():
        (line,) = axes.plot(values_of(first), label=way)
        for path in others:
            style = {"color": line.get_color(), "linestyle": line.get_linestyle()}
            axes.plot(values_of(path), linewidth=0.8, alpha=0.4, **style)
    axes.set(xlabel="step", ylabel=label, yscale="log")

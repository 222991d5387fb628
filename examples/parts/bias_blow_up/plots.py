"""The tables and the pictures of bias_blow_up.py."""

import numpy as np

from parts.bias_blow_up.growth import BETA, BOTH, FULL, MEAN
from parts.bias_blow_up.networks import blew_up
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
            f"{name} network, lr {lr}, {case}",
            *report_ends(paths),
        )
        for name in ("sigmoid", "ReLU")
        for (case, lr), paths in measured[name.lower()].items()
    ]
    cosines = [(case, span(values)) for case, values in measured["cosines"].items()]
    head = ("", "direct", "E[x]", "Var[x]", "Var[x], E[x]", "total")
    return "\n\n".join(
        [
            table("The gradient of b in one unit, by its routes", head, routes),
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


def report_ends(paths):
    """How networks of one kind end: a span over seeds, or how many have blown up."""
    count = sum(map(blew_up, paths))
    if count:
        return f"{count} of {len(paths)} blew up", "", ""
    return (
        span(path.final_loss for path in paths),
        span(path.b[-1] for path in paths),
        span(path.growth for path in paths),
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
    parts = {
        "root": (BOTH, " (leading order)"),
        "rounds": ("statistics renewed once per round", ""),
    }
    for part, (title, order) in parts.items():
        ends = zip(("|w|", "b", "loss"), unit[part], theory[part])
        rows += [
            (f"{name}: {title}", a[-1], f"{b[-1]:.4g}{order if name != 'loss' else ''}")
            for name, a, b in ends
        ]
    ends = unit["root"].w[-1], theory["recursion"].w[-1]
    rows.append((f"|w|: {BOTH}, by the exact recursion", *ends))
    rows.append(("largest loss at the end of a round", unit["converged"].max(), 0.0))
    return table("One unit, before the last step", ("", "measured", "theory"), rows)


def plot_unit(measured, theme):
    """One unit: b, the loss meanwhile, the square root, and the exponential."""
    unit, theory = measured["units"][0], measured["theory"]
    line, k = unit["line"], np.arange(len(unit["root"].w))
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    cases = {FULL: FULL, MEAN: MEAN, BETA: "E[x] constant, and beta learns"}
    for case, label in cases.items():
        a.plot(line[case].b, label=label)
        circles(a, k, theory["line"][case], "theory" if case == BETA else None)
        b.plot(line[case].loss, label=label)
    a.set(title="Only with a constant E[x] does b climb", ylabel="bias b")
    b.set(title="The loss does not notice b", ylabel="loss of the unit", ylim=0)
    c.plot(unit["root"].w, label="measured")
    circles(c, k, theory["root"].w, r"$\sqrt{1 + 2\,lr\,(\tau-1)\,k}$")
    c.set(title="Var[x] constant, too: |w| grows like √k", ylabel="norm of w")
    d.plot(unit["rounds"].w, label="measured")
    w = theory["rounds"].w
    circles(d, np.arange(len(w)), w, r"$\tau^{\,round}$, $\tau = 3$")
    d.set(title="Renewed once per round: |w| triples", ylabel="norm of w", yscale="log")
    for axes in (a, b, c, d):
        axes.set_xlabel("step k")
        axes.legend()
    d.set_xlabel("rounds of 40 steps, at constant loss")
    return fig


def plot_networks(measured, theme):
    """Biases and weights of sigmoid networks, and final losses by learning rate."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    sigmoid = measured["sigmoid"]
    rate = max(lr for _, lr in sigmoid)
    at_rate = {case: paths for (case, lr), paths in sigmoid.items() if lr == rate}
    a.set_title(f"Sigmoids, lr {rate:g}: only E[x] holds b")
    # A logarithmic axis cannot show the 0 at which biases start.
    plot_cases(a, at_rate, lambda path: np.maximum(path.b, 1e-17))
    a.set(ylabel="norm of all hidden biases", yscale="log", ylim=(1e-17, 1e3))
    b.set_title(f"Sigmoids, lr {rate:g}: weights grow, too")
    plot_cases(b, at_rate, lambda path: path.w / path.w[0])
    b.set_ylabel("norm of hidden weights (start: 1)")
    plot_rates(c, sigmoid, measured["chance"])
    c.set_title("Sigmoids: at low rates, nothing fails")
    plot_rates(d, measured["relu"], measured["chance"])
    d.set_title("ReLUs: frozen statistics fail at 0.5")
    a.legend(fontsize=8, loc="center right")
    c.legend(fontsize=8)
    d.set_ylim(bottom=1e-4)
    style = {"title": "at the top edge: overflow", "title_fontsize": 8}
    d.legend(fontsize=8, loc="lower left", **style)
    return fig


def plot_cases(axes, paths_of_cases, values_of):
    """One style per case and one line per seed, of which the first is thick."""
    for case, (first, *others) in paths_of_cases.items():
        (line,) = axes.plot(values_of(first), label=case)
        for path in others:
            style = {"color": line.get_color(), "linestyle": line.get_linestyle()}
            axes.plot(values_of(path), linewidth=0.8, alpha=0.4, **style)
    axes.set(xlabel="step")


def plot_rates(axes, paths, chance):
    """The median over seeds of the final loss, by learning rate."""
    top = 30.0
    cases = [case for case in dict.fromkeys(case for case, _ in paths) if case != BETA]
    for case, marker in zip(cases, "osD^"):
        rates = [lr for c, lr in paths if c == case]
        losses = [
            np.median([top if blew_up(p) else p.final_loss for p in paths[case, lr]])
            for lr in rates
        ]
        axes.plot(rates, losses, marker=marker, label=case)
    style = {"color": "C4", "linestyle": ":", "linewidth": 1.2}
    axes.axhline(chance, label="guessing", **style)
    axes.set(xlabel="learning rate", ylabel="training loss at the end")
    axes.set(xscale="log", yscale="log", ylim=(None, top))
    axes.set_xticks(rates, [f"{lr:g}" for lr in rates])
    axes.minorticks_off()

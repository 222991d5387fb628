"""The tables and the picture of scale_invariance.py."""

import numpy as np
from matplotlib.ticker import LogLocator

from support.measures import relative_error
from support.plotting import circles, figure
from support.tables import table


def report(measured):
    """The closing tables: invariance, cosines, effective learning rates, and losses."""
    invariance = [
        (f"a = {a:g}, eps = {eps:g}", *(f"{error:.1g}" for error in errors))
        for (a, eps), errors in measured["invariance"].items()
    ]
    cosines = [
        (f"eps = {eps:g}", *(f"{np.abs(cosines).max():.3g}" for cosines in found))
        for eps, found in measured["radial"].items()
    ]
    rates = [report_rate(lr, path) for lr, path in measured["rates"].items()]
    reference = measured["reference"].loss
    losses = [
        (f"(aW, a^2 lr), a = {a:g}", f"{relative_error(path.loss, reference):.1g}", "0")
        for a, path in measured["scaled"].items()
    ]
    same_rate = relative_error(measured["same rate"].loss, reference)
    losses.append(("(aW, lr), a = 10", f"{same_rate:.1g}", "not 0"))
    return "\n\n".join(
        [
            table(
                "aW with eps, compared with W with eps / a²: relative error of\n"
                "y = BN((aW)u), and of a times the gradient of aW (theory: 0)",
                ("", "y", "gradient"),
                invariance,
            ),
            table(
                "Largest |cosine| of w and dL/dw", ("", "measured", "theory"), cosines
            ),
            table(
                "Effective learning rate lr / |W|^2 at the first and the last step,\n"
                "relative error of the theory for |W|^2, and mean loss of 20 steps",
                ("", "first", "last", "error (theory: 0)", "loss"),
                rates,
            ),
            table(
                "Relative difference of the losses from those of (W, lr)",
                ("", "measured", "theory"),
                losses,
            ),
        ]
    )


def report_rate(lr, path):
    """The row of one learning rate."""
    error = np.abs(path.size / path.pythagoras - 1).max()
    first, last = path.effective_lr[[0, -1]]
    return f"lr = {lr:g}", first, last, f"{error:.1g}", f"{path.loss[-20:].mean():.3f}"


def plot(measured, theme):
    """|W|^2, the effective learning rate, the losses, and the cosines."""
    fig, ((size, rate), (loss, radial)) = figure(theme, 2, 2)
    plot_rates(size, rate, measured["rates"])
    plot_scales(loss, measured)
    plot_radial(radial, measured["radial"])
    for axes in (size, rate, loss, radial):
        axes.legend()
    return fig


def plot_rates(size, rate, rates):
    for lr, path in rates.items():
        size.plot(path.size, label=f"lr = {lr:g}")
        rate.plot(path.effective_lr, label=f"lr = {lr:g}")
        label = "theory: Pythagoras" if lr == max(rates) else None
        circles(size, np.arange(len(path.size)), path.pythagoras, label)
    size.set(title="Every step makes the weights longer", yscale="log")
    size.set_yticks([300, 1000, 3000], ["300", "1000", "3000"])
    size.minorticks_off()
    size.set(xlabel="step", ylabel="|W|² of all layers before BN")
    rate.set(title="A rate that is too large soon decays", yscale="log")
    rate.set(xlabel="step", ylabel="effective learning rate, lr / |W|²")


def plot_scales(axes, measured):
    a = max(measured["scaled"])
    scaled = measured["scaled"][a].loss
    axes.plot(measured["reference"].loss, label="W, lr")
    axes.plot(measured["same rate"].loss, label=f"{a:g} W, lr")
    circles(axes, np.arange(len(scaled)), scaled, f"{a:g} W, {a**2:g} lr")
    axes.set(title="10 W with 100 lr trains like W with lr", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set(xlabel="step", ylabel="cross-entropy of a batch (guessing: 1.6)")


def plot_radial(axes, radial):
    epsilons = [eps for eps in radial if eps > 0]
    found, formula = np.transpose(
        [np.abs(radial[eps]).mean(axis=1) for eps in epsilons]
    )
    axes.plot(epsilons, found, label="measured")
    circles(axes, epsilons, formula, "theory")
    axes.set(title="Only eps gives a gradient along w", xscale="log", yscale="log")
    axes.set(
        xlabel="eps (Var[x] is about 20)", ylabel="|cos(w, dL/dw)|, mean of 50 units"
    )

"""Tables and picture of ``scale_invariance.py``."""

import numpy as np
from lab import apart, circles, figure, table
from matplotlib.ticker import LogLocator


def report(measured):
    """What theory calls zero or equal, and the effective learning rates."""
    return "\n\n".join(
        [
            table(
                "BN((aW)u) and a dL/d(aW), against W with eps / a^2 (theory: 0)",
                ("", "y", "gradient"),
                [
                    (f"a = {a:g}, eps = {eps:g}", *(f"{value:.1g}" for value in found))
                    for (a, eps), found in measured["invariance"].items()
                ],
            ),
            table(
                "Largest cosine of w and dL/dw",
                ("", "measured", "theory"),
                [
                    (f"eps = {eps:g}", *(f"{np.abs(cos).max():.3g}" for cos in found))
                    for eps, found in measured["radial"].items()
                ],
            ),
            table(
                "lr / |W|^2 at the first and last step, |W|^2 off Pythagoras, and loss",
                ("", "first", "last", "off (0)", "loss"),
                [_rate(lr, path) for lr, path in measured["rates"].items()],
            ),
            table(
                "Losses of (aW, a^2 lr), against (W, lr)",
                ("", "apart", "theory"),
                [
                    *(
                        (f"a = {a:g}", _losses_apart(path, measured), "0")
                        for a, path in measured["scaled"].items()
                    ),
                    (
                        "a = 10, but lr",
                        _losses_apart(measured["same_rate"], measured),
                        "not 0",
                    ),
                ],
            ),
        ]
    )


def _rate(lr, path):
    off = np.abs(path.size / path.pythagoras - 1).max()
    first, last = path.effective_lr[[0, -1]]
    return f"lr = {lr:g}", first, last, f"{off:.1g}", f"{path.loss[-20:].mean():.3f}"


def _losses_apart(path, measured):
    """How far the losses are from those of W with lr, beside the largest of these."""
    return f"{apart(path.loss, measured['reference'].loss):.1g}"


def plot(measured, theme):
    """|W|^2, the effective learning rate, the losses, and the radial part."""
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
    size.set(xlabel="step", ylabel="|W|² of all layers in front of BN")
    rate.set(title="A rate that is too large cures itself", yscale="log")
    rate.set(xlabel="step", ylabel="effective learning rate, lr / |W|²")


def plot_scales(axes, measured):
    a = max(measured["scaled"])
    scaled = measured["scaled"][a].loss
    axes.plot(measured["reference"].loss, label="W, lr")
    axes.plot(measured["same_rate"].loss, label=f"{a:g} W, lr")
    circles(axes, np.arange(len(scaled)), scaled, f"{a:g} W, {a**2:g} lr")
    axes.set(title="Ten times W wants a hundred times lr", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set(xlabel="step", ylabel="cross entropy of a batch (guessing: 1.6)")


def plot_radial(axes, radial):
    epsilons = [eps for eps in radial if eps > 0]
    found, formula = np.transpose(
        [np.abs(radial[eps]).mean(axis=1) for eps in epsilons]
    )
    axes.plot(epsilons, found, label="measured")
    circles(axes, epsilons, formula, "theory")
    axes.set(title="Only eps lets the loss pull along w", xscale="log", yscale="log")
    axes.set(
        xlabel="eps (Var[x] is about 20)", ylabel="|cos(w, dL/dw)|, mean of 50 units"
    )

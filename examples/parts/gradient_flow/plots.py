"""The picture and the tables of gradient_flow.py."""

import numpy as np

from support.networks import HE
from support.plotting import figure
from support.tables import table

SHOWN_STEPS = (0, 1, 2, 5, 15)  # of SGD, in the table


def named(activation, bn):
    return f"{activation}, {'batch norm' if bn else 'without'}"


def report(measured):
    """The closing tables: factors with their theory, and the results of training."""
    sigmas = [f"sigma {sigma:.3g}" for sigma in measured["sigmas"]]
    factors = [
        (named(*case), *(f"{a:.4g} ({b:.4g})" for a, b in zip(found, expected)))
        for case, found in measured["factors"].items()
        for expected in (measured["theory"][case],)
    ]
    steps = min(map(len, measured["early"].values()))
    shown = [k for k in SHOWN_STEPS if k < steps]
    early = [
        (f"lr {lr}", *(f"{found[k]:.3f}" for k in shown))
        for lr, found in measured["early"].items()
    ]
    depths = [f"depth {depth}" for depth in measured["depths"]]
    accuracies = [
        (named(*case), *(f"{value:.1%}" for value in found))
        for case, found in measured["accuracy"].items()
    ]
    return "\n\n".join(
        [
            table(
                "Factor of |dL/dh|^2 per layer toward the input, measured (theory)",
                ("", *sigmas),
                factors,
            ),
            table(
                "The same factor of ReLU with batch norm, during training",
                ("", *(f"step {k}" for k in shown)),
                early,
            ),
            table("Test accuracy after training", ("", *depths), accuracies),
        ]
    )


def plot(measured, theme):
    """Gradients and factors at initialization, factors in training, and accuracies."""
    fig, ((profile, without), (with_bn, early), accuracies) = figure(theme, 3, 2)
    plot_profiles(profile, measured["profiles"])
    plot_factors(without, measured, bn=False)
    plot_factors(with_bn, measured, bn=True)
    plot_early(early, measured["early"], measured["theory"]["ReLU", True][0])
    for axes, activation in zip(accuracies, ("sigmoid", "ReLU")):
        plot_accuracies(axes, measured, activation)
    return fig


def plot_profiles(axes, profiles):
    for activation, color in (("ReLU", "C0"), ("sigmoid", "C1")):
        for bn, style in ((True, "-"), (False, "--")):
            found = profiles[activation, bn, HE]
            layers, label = np.arange(1, len(found) + 1), named(activation, bn)
            axes.plot(layers, found / found[-1], style, color=color, label=label)
    axes.set(title="Batch norm: sigmoid stable, ReLU grows", yscale="log")
    axes.set(xlabel="layer, from the input", ylabel="|dL/dh|² (last layer: 1)")
    axes.legend(title="sigma² = 2")


def plot_factors(axes, measured, bn):
    sigmas = measured["sigmas"]
    cases = [case for case in measured["factors"] if case[1] == bn]
    for i, (case, marker) in enumerate(zip(cases, "osD^")):
        found, expected = measured["factors"][case], measured["theory"][case]
        axes.plot(sigmas, expected, color=f"C{i}", linewidth=1)
        axes.plot(sigmas, found, marker, color=f"C{i}", label=case[0])
    title = "With batch norm: independent of sigma" if bn else "Without: sigma decides"
    axes.set(title=title, xscale="log", yscale="linear" if bn else "log")
    axes.set(
        xlabel="sigma, of weights N(0, sigma² / fan_in)",
        ylabel="factor of |dL/dh|² per layer",
    )
    axes.set_xticks(sigmas, [f"{sigma:.3g}" for sigma in sigmas])
    axes.xaxis.minorticks_off()
    axes.legend(title="lines: theory", loc=(0.7, 0.45) if bn else "best")


def plot_early(axes, early, theory):
    for lr, found in early.items():
        axes.plot(found, label=f"lr {lr}")
    axes.axhline(theory, color="C4", linewidth=1, linestyle=":")
    axes.set(title="ReLU: training undoes the explosion", xlabel="step of SGD")
    axes.set_ylabel("factor of |dL/dh|² per layer")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(title="dotted: theory at step 0", loc=(0.46, 0.46))


def plot_accuracies(axes, measured, activation):
    depths = [str(depth) for depth in measured["depths"]]
    for bn, marker in ((True, "o"), (False, "s")):
        found = 100 * np.array(measured["accuracy"][activation, bn])
        axes.plot(depths, found, marker=marker, label=named(activation, bn))
    verb = {"sigmoid": "need", "ReLU": "gain from"}[activation]
    axes.set(title=f"Deep {activation} networks {verb} it", ylim=(0, 105))
    axes.set(xlabel="hidden layers", ylabel="test accuracy (%)")
    axes.legend()

"""The picture and the tables of gradient_flow.py."""

import numpy as np

from support.networks import HE
from support.plotting import NORM_STYLES, figure
from support.tables import table

SHOWN_STEPS = (0, 1, 2, 5, 15)  # of SGD, in the table


def named(activation, bn):
    return f"{activation}, {'batch norm' if bn else 'no norm'}"


def report(measured):
    """The closing tables: factors with their theory, and the results of training."""
    return "\n\n".join(
        [
            report_factors(measured),
            report_batches(measured),
            report_fixed_output(measured["fixed output"]),
            report_early(measured["early"]),
            report_accuracies(measured["accuracy"]),
        ]
    )


def report_factors(measured):
    """A row for each network, a column for each sigma."""
    rows = [
        (named(*case), *map(with_theory, found, measured["theory"][case]))
        for case, found in measured["factors"].items()
    ]
    title = (
        "Factor of |dL/dh|² per layer toward the input, measured\n"
        "(theory: infinite width; with batch norm, infinite batch)"
    )
    return table(title, ("", *(f"sigma {s:.3g}" for s in measured["sigmas"])), rows)


def report_batches(measured):
    """A row for each activation, a column for each number of rows."""
    found, theory = measured["batches"], measured["batch theory"]
    sizes = sorted({batch for _, batch in found})
    rows = [
        (
            activation,
            *(with_theory(found[activation, b], theory[activation, b]) for b in sizes),
            f"({measured['theory'][activation, True][0]:.4g})",
        )
        for activation in dict.fromkeys(a for a, _ in found)
    ]
    title = (
        "The same with batch norm, by the rows normalized together, measured\n"
        "(theory: infinite width, this batch)"
    )
    return table(title, ("", *(f"{b} rows" for b in sizes), "infinitely many"), rows)


def with_theory(found, expected):
    return f"{found:.4g} ({expected:.4g})"


def report_fixed_output(found):
    """The gradients at layer 10 with their dependence on sigma, and without it."""
    rows = [(f"sigma {s:.3g}", h, h * s, w * s) for s, (h, w) in found.items()]
    title = (
        "ReLU layer 10 of 12 with batch norm, if the output layer does not\n"
        "scale with sigma (theory: the last two columns are constant)"
    )
    return table(title, ("", "|dL/dh|", "sigma |dL/dh|", "sigma |dL/dW|"), rows)


def report_early(early):
    """A row for each learning rate, a column for each of some steps."""
    steps = [k for k in SHOWN_STEPS if k < min(map(len, early.values()))]
    rows = [
        (f"lr {lr}", *(f"{found[k]:.3f}" for k in steps)) for lr, found in early.items()
    ]
    title = "The factor of ReLU with batch norm, during training"
    return table(title, ("", *(f"step {k}" for k in steps)), rows)


def report_accuracies(accuracies):
    """A row for each setting, with batch norm and without."""
    settings = dict.fromkeys((a, *rest) for a, _, *rest in accuracies)
    rows = [
        (
            f"{activation}, depth {depth}, sigma {sigma:.3g}, lr {lr}",
            *(f"{accuracies[activation, bn, depth, sigma, lr]:.1%}" for bn in (0, 1)),
        )
        for activation, depth, sigma, lr in sorted(settings)
    ]
    title = "Test accuracy after training"
    return table(title, ("", "without batch norm", "with batch norm"), rows)


def plot(measured, theme):
    """Gradients and factors at initialization, factors in training, and accuracies."""
    fig, axes = figure(theme, 4, 2)
    profile, without, with_bn, batches, early, depth, sigma, rate = axes.flat
    plot_profiles(profile, measured["profiles"])
    plot_factors(without, measured, bn=False)
    plot_factors(with_bn, measured, bn=True)
    plot_batches(batches, measured)
    plot_early(early, measured["early"], measured["theory"]["ReLU", True][0])
    accuracies = measured["accuracy"]
    plot_accuracies(depth, accuracies, "sigmoid", sigma=1, lr=0.5)
    depth.set(title="Sigma 1: deep sigmoids need batch norm", xlabel="hidden layers")
    plot_accuracies(sigma, accuracies, "sigmoid", depth=5, lr=0.5)
    sigma.set(title="Sigma 4: they learn without it, too")
    sigma.set_xlabel("sigma, of weights N(0, sigma² / inputs); depth 5")
    plot_accuracies(rate, accuracies, "ReLU", depth=20, sigma=HE)
    rate.set(
        title="Deep ReLUs: the learning rate decides",
        xlabel="learning rate (20 hidden layers)",
    )
    return fig


def plot_profiles(axes, profiles):
    for activation, color in (("ReLU", "C0"), ("sigmoid", "C1")):
        for bn, style in ((True, "-"), (False, "--")):
            found = profiles[activation, bn, HE]
            layers, label = np.arange(1, len(found) + 1), named(activation, bn)
            axes.plot(layers, found / found[-1], style, color=color, label=label)
    axes.set(title="Vanishing is cured; ReLU grows mildly", yscale="log")
    axes.set(xlabel="layer, from the input", ylabel="|dL/dh|² (last layer: 1)")
    axes.legend(title="sigma² = 2")


def plot_factors(axes, measured, bn):
    sigmas = measured["sigmas"]
    cases = [case for case in measured["factors"] if case[1] == bn]
    for i, (case, marker) in enumerate(zip(cases, "osD^")):
        found, expected = measured["factors"][case], measured["theory"][case]
        axes.plot(sigmas, expected, "-", color=f"C{i}", linewidth=1)
        axes.plot(sigmas, found, marker, color=f"C{i}", label=case[0])
    if bn:
        axes.set(title="With batch norm, sigma cancels", ylim=(0.95, 1.95))
    else:
        axes.set(title="Without batch norm, sigma decides", yscale="log")
    axes.set_xscale("log")
    axes.set(
        xlabel="sigma, of weights N(0, sigma² / inputs)",
        ylabel="factor of |dL/dh|² per layer",
    )
    axes.set_xticks(sigmas, [f"{sigma:.3g}" for sigma in sigmas])
    axes.xaxis.minorticks_off()
    axes.legend(title="lines: theory", ncols=2 if bn else 1)


def plot_batches(axes, measured):
    sizes = sorted({batch for _, batch in measured["batches"]})
    activations = dict.fromkeys(activation for activation, _ in measured["batches"])
    for i, (activation, marker) in enumerate(zip(activations, "osD^")):
        expected, found = (
            [measured[key][activation, b] for b in sizes]
            for key in ("batch theory", "batches")
        )
        axes.plot(sizes, expected, "-", color=f"C{i}", linewidth=1)
        axes.plot(sizes, found, marker, color=f"C{i}", label=activation)
    axes.set(title="Small batches explode faster", xscale="log", ylim=(0.95, 1.95))
    axes.set(xlabel="rows normalized together", ylabel="factor of |dL/dh|² per layer")
    axes.set_xticks(sizes, sizes)
    axes.xaxis.minorticks_off()
    axes.legend(title="lines: theory", ncols=2)


def plot_early(axes, early, theory):
    for lr, found in early.items():
        axes.plot(found, label=f"lr {lr}")
    axes.axhline(theory, color="C4", linewidth=1, linestyle=":", label="theory, step 0")
    axes.set(title="ReLU: training undoes the explosion", xlabel="step of SGD")
    axes.set_ylabel("factor of |dL/dh|² per layer")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc=(0.55, 0.45))


def plot_accuracies(axes, accuracies, activation, depth=None, sigma=None, lr=None):
    """The test accuracy by depth, sigma or lr: by the one that is not given."""
    given = (depth, sigma, lr)
    varied = given.index(None)
    for bn, style in NORM_STYLES.items():
        points = {
            case[varied]: 100 * value
            for (name, norm, *case), value in accuracies.items()
            if (name, norm) == (activation, bn)
            and all(g in (None, c) for g, c in zip(given, case))
        }
        x = sorted(points)
        label = "with batch norm" if bn else "without batch norm"
        y = [points[value] for value in x]
        axes.plot([f"{value:g}" for value in x], y, label=label, **style)
    axes.set(ylim=(0, 105), ylabel="test accuracy (%)")
    axes.legend()

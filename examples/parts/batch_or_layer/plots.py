"""The picture, the tables and the JSON file of batch_or_layer.py."""

import numpy as np

from parts.batch_or_layer.variants import AFTER, BATCH, LAYER, NONE
from support.networks import ACTIVATIONS, HE
from support.plotting import circles, figure
from support.tables import span, table

NORMS = (NONE, BATCH, LAYER)
SHOWN_LAYERS = (1, 2, 5, 10, 20, 30)  # in the table of similarities
COLORS = {BATCH: "C0", LAYER: "C1", NONE: "C4", AFTER: "C2"}
STYLES = {BATCH: "-", LAYER: "--", NONE: ":", AFTER: "-."}


def report(measured):
    """The closing tables: factors with their theory, and the similarity of rows."""
    return "\n\n".join(
        [
            report_constants(measured),
            report_sigmas(measured),
            report_betas(measured),
            report_similarity(measured),
        ]
    )


def report_constants(measured):
    """The factors that do not depend on sigma."""
    sigmas = measured["sigmas"]
    rows = [
        (
            f"{activation}, {norm}",
            span(measured["factors"][activation, norm, s, 0.0] for s in sigmas),
            f"{measured['theory'][activation, norm, sigmas[0], 0.0]:.4g}",
        )
        for activation in ACTIVATIONS
        for norm in (BATCH, LAYER)
    ]
    title = (
        "Factor of |dL/dh|² per layer toward the input, the same for each\n"
        "sigma (theory: leading order in 1/width and 1/batch)"
    )
    return table(title, ("", "measured", "theory"), rows)


def report_sigmas(measured):
    """The factors that depend on sigma, with a column for each sigma."""
    found, theory = measured["factors"], measured["theory"]
    sigmas = measured["sigmas"]
    rows = [
        (
            f"{activation}, {norm}",
            *(
                f"{found[case]:.3g} ({theory[case]:.3g})"
                for case in [(activation, norm, s, 0.0) for s in sigmas]
            ),
        )
        for activation, norm in [*((a, NONE) for a in ACTIVATIONS), ("tanh", AFTER)]
    ]
    title = "The same factor where it depends on sigma, measured (theory)"
    return table(title, ("", *(f"sigma {s:.3g}" for s in sigmas)), rows)


def report_betas(measured):
    """The factor of ReLU by the shift of batch norm."""
    cases = [("ReLU", BATCH, HE, beta) for beta in measured["betas"]]
    rows = [
        (f"beta {case[-1]:g}", measured["factors"][case], measured["theory"][case])
        for case in cases
    ]
    title = "The same factor of ReLU after batch norm with a shift beta"
    return table(title, ("", "measured", "theory"), rows)


def report_similarity(measured):
    """How much two rows resemble each other, with a column for some layers."""
    found = {
        f"ReLU, {norm}": measured["similarity"]["ReLU", norm, HE, 0.0]
        for norm in (BATCH, LAYER)
    }
    found["ReLU, layer norm, wide-network theory"] = measured["similarity theory"]
    rows = [
        (name, *(f"{cosines[d - 1]:.2f}" for d in SHOWN_LAYERS))
        for name, cosines in found.items()
    ]
    title = "Mean cosine of two rows of h (1: all rows have the same direction)"
    return table(title, ("", *(f"layer {d}" for d in SHOWN_LAYERS)), rows)


def numbers(measured):
    """What --json saves: |dL/dh|^2 per layer, and the factors, of each network."""
    return {
        "quantity": "|dL/dh|^2 of each linear layer, from the input on",
        "networks": [
            {
                "activation": activation, "norm": norm, "sigma": sigma, "beta": beta,
                "squares": squares, "factor": measured["factors"][case],
                "theory": measured["theory"][case],
            }
            for case, squares in measured["profiles"].items()
            for activation, norm, sigma, beta in [case]
        ],
    }  # fmt: skip


def plot(measured, theme):
    """Gradients by layer, and what their factors depend on."""
    fig, ((relu, sigmoid), (constant, after), (shift, alike)) = figure(theme, 3, 2)
    plot_profiles(relu, measured, "ReLU", "ReLU: batch norm lets gradients grow")
    plot_profiles(sigmoid, measured, "sigmoid", "Sigmoid: layer norm lets them vanish")
    plot_constants(constant, measured)
    plot_after(after, measured)
    plot_shift(shift, measured)
    plot_similarity(alike, measured)
    return fig


def plot_profiles(axes, measured, activation, title):
    for norm in NORMS:
        squares = measured["profiles"][activation, norm, HE, 0.0]
        layers, style = np.arange(1, len(squares) + 1), STYLES[norm]
        found = squares / squares[-1]
        axes.plot(layers, found, style, color=COLORS[norm], label=norm)
    axes.set(title=title, yscale="log", xlabel="layer, from the input")
    axes.set_ylabel("|dL/dh|² (last layer: 1)")
    axes.legend()


def plot_constants(axes, measured):
    for norm, marker, side in ((BATCH, "o", -0.12), (LAYER, "s", 0.12)):
        cases = [(a, norm, HE, 0.0) for a in ACTIVATIONS]
        positions = np.arange(len(cases)) + side
        theory = [measured["theory"][case] for case in cases]
        axes.bar(positions, theory, 0.2, color=COLORS[norm], alpha=0.35)
        found = [measured["factors"][case] for case in cases]
        axes.plot(positions, found, marker, color=COLORS[norm], label=norm)
    axes.axhline(1, color="C4", linewidth=1, linestyle=":")
    axes.set_xticks(range(len(ACTIVATIONS)), list(ACTIVATIONS))
    axes.set(title="Each norm and activation has its factor", ylim=(0, 1.9))
    axes.set_ylabel("factor of |dL/dh|² per layer")
    axes.legend(title="dots: measured; bars: theory", ncols=2)


def plot_after(axes, measured):
    sigmas = measured["sigmas"]
    for norm, label in ((BATCH, "before tanh"), (AFTER, "after tanh")):
        cases = [("tanh", norm, sigma, 0.0) for sigma in sigmas]
        found = [measured["factors"][case] for case in cases]
        axes.plot(sigmas, found, STYLES[norm], color=COLORS[norm], label=label)
        theory = [measured["theory"][case] for case in cases]
        circles(axes, sigmas, theory, "theory" if norm == AFTER else None)
    axes.set(title="Batch norm after tanh: sigma matters", xscale="log")
    axes.set_xticks(sigmas, [f"{sigma:.3g}" for sigma in sigmas])
    axes.minorticks_off()
    axes.set(xlabel="sigma, of weights N(0, sigma² / inputs)")
    axes.set_ylabel("factor of |dL/dh|² per layer")
    axes.legend(title="batch norm")


def plot_shift(axes, measured):
    betas = measured["betas"]
    cases = [("ReLU", BATCH, HE, beta) for beta in betas]
    found = [measured["factors"][case] for case in cases]
    axes.plot(betas, found, marker="o", color=COLORS[BATCH], label="measured")
    theory = [measured["theory"][case] for case in cases]
    circles(axes, betas, theory, "theory")
    axes.axhline(1, color="C4", linewidth=1, linestyle=":")
    axes.set(title="A shift before ReLU reduces the growth")
    axes.set(xlabel="beta of batch norm", ylabel="factor of |dL/dh|² per layer")
    axes.legend()


def plot_similarity(axes, measured):
    for norm in (BATCH, LAYER):
        found = measured["similarity"]["ReLU", norm, HE, 0.0]
        layers, style = np.arange(1, len(found) + 1), STYLES[norm]
        axes.plot(layers, found, style, color=COLORS[norm], label=norm)
    circles(axes, layers, measured["similarity theory"], "theory of layer norm")
    axes.set(title="With layer norm, rows become alike", ylim=(-0.05, 1.05))
    axes.set(xlabel="layer, from the input", ylabel="mean cosine of two rows of h")
    axes.legend(loc="center right")

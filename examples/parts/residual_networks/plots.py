"""The picture, the tables and the JSON file of residual_networks.py."""

import numpy as np

from parts.residual_networks.blocks import BATCH, LAYER, NONE
from support.networks import HE
from support.plotting import circles, figure
from support.tables import table

NETWORKS = {  # what they are called, and their lines
    (NONE, True): ("skip, no norm", "C4", ":"),
    (BATCH, False): ("batch norm, no skip", "C2", "-."),
    (BATCH, True): ("batch norm, skip", "C0", "-"),
    (LAYER, True): ("layer norm, skip", "C1", "--"),
}


def report(measured):
    """The closing tables: how much the gradient grows in 64 blocks."""
    found, theory = measured["growth"], measured["theory"]
    blocks = len(found[BATCH, True, HE]) - 1
    by_network = [
        (f"{norm}, {'skip' if skip else 'no skip'}", found[case][0], theory[case][0])
        for norm, skip, sigma in found
        if sigma == HE
        for case in [(norm, skip, sigma)]
    ]
    by_sigma = [
        (
            f"{norm}, skip",
            *(
                f"{found[norm, True, s][0]:.3g} ({theory[norm, True, s][0]:.3g})"
                for s in measured["sigmas"]
            ),
        )
        for norm in (NONE, BATCH, LAYER)
    ]
    lasts = [n for n in (4, 16, 64) if n <= blocks]
    return "\n\n".join(
        [
            table(
                f"|dL/dx|^2 at the input of {blocks} blocks, relative to the output;\n"
                "He's weights (theory: leading order in 1/width and 1/batch)",
                ("", "measured", "theory"),
                by_network,
            ),
            table(
                "The same for weights from N(0, sigma^2 / width), measured (theory)",
                ("", *(f"sigma {sigma:.3g}" for sigma in measured["sigmas"])),
                by_sigma,
            ),
            table(
                "The exponent p of the growth n^p of the theory, between n/2 and n",
                ("", *(f"n = {n}" for n in lasts)),
                [
                    (
                        f"{norm}, skip",
                        *(f"{exponent(theory[norm, True, HE], n):.3f}" for n in lasts),
                    )
                    for norm in (BATCH, LAYER)
                ],
            ),
        ]
    )


def exponent(growth, n):
    """The slope of the growth over n blocks on doubly logarithmic axes."""
    # The first n blocks of a network do not depend on how many follow.
    over = growth[0] / growth
    return float(np.log2(over[n] / over[n // 2]))


def numbers(measured):
    """What --json saves: the growth of the gradient in each network."""
    return {
        "quantity": "|dL/dx|^2 of the input of each block and of the output, "
        "relative to the output; activation ReLU",
        "networks": [
            {
                "norm": norm, "skip": skip, "sigma": sigma, "growth": growth,
                "theory": measured["theory"][norm, skip, sigma],
            }
            for (norm, skip, sigma), growth in measured["growth"].items()
        ],
    }  # fmt: skip


def plot(measured, theme):
    """The gradient from block to block, and its growth with the number of blocks."""
    fig, ((blocks, growth),) = figure(theme, 1, 2)
    plot_blocks(blocks, measured)
    plot_growth(growth, measured)
    return fig


def plot_blocks(axes, measured):
    for (norm, skip), (label, color, style) in NETWORKS.items():
        axes.plot(measured["growth"][norm, skip, HE], style, color=color, label=label)
    axes.set(title="Norm and skip connection together help", yscale="log")
    axes.set(xlabel="block, from the input", ylabel="|dL/dx|² (output: 1)")
    axes.legend()


def plot_growth(axes, measured):
    for norm in (BATCH, LAYER):
        label, color, style = NETWORKS[norm, True]
        found, theory = (measured[k][norm, True, HE] for k in ("growth", "theory"))
        blocks = np.arange(len(found))
        axes.plot(blocks[1:], found[0] / found[1:], style, color=color, label=label)
        shown = np.unique(np.geomspace(1, blocks[-1], 10).astype(int))
        expected = theory[0] / theory[shown]
        circles(axes, shown, expected, "theory" if norm == LAYER else None)
    axes.set(title="Then gradients grow like a power of n", xscale="log", yscale="log")
    axes.set(xlabel="number of blocks n", ylabel="|dL/dx|² at input / after block n")
    axes.set_xticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
    axes.minorticks_off()
    axes.legend()

"""The drawing, the picture and the tables of backward_by_hand.py."""

import numpy as np
from lab import figure, table

import tinygrad_bn as tg


def drawing(tensors, g, hand, part, theme):
    """The graph, on which the gradients carry the names of those found by hand.

    A gradient is called by a name only if its values are the same.
    """
    symbols = {f"d_{name}": d for name, d in hand.items()}
    symbols |= {f"{name} part": d for name, d in part.items()}
    title = "The backward pass by hand, on the graph"
    return tg.draw(
        tensors["y"],
        tensors["x"],
        gradient=g,
        symbols=symbols,
        direction="TB",
        theme=theme,
        title=title,
    )


def plot(found, theme):
    """The parts of d_x row by row, what each removes, and the errors in float32."""
    fig, ((rows, geometry, errors),) = figure(theme, 1, 3, size=(3.8, 3.4))
    for i, (name, d) in enumerate(found["terms"].items()):
        style = {"width": 1 / 5, "hatch": ("", "//", "xx", "..")[i], "label": name}
        at = (i - 1.5) / 5
        rows.bar(np.arange(len(d)) + at, d[:, 0], **style)
        kept = [found[f"along {v}"][name][0] for v in ("ones", "x_hat")]
        geometry.bar(np.arange(2) + at, kept, **style)
    rows.set_title("Three parts make d_x")
    rows.set(xlabel="row of the batch", ylabel="gradient of x, channel 0")
    # Room above the bars for the legend, which holds for both panels.
    rows.set_ylim(top=1.4 * rows.get_ylim()[1])
    rows.legend(loc="upper center", ncols=2)
    geometry.set_title("Each statistic removes a direction")
    geometry.set_ylabel("sum over rows of part * direction")
    geometry.set_xticks(range(2), ("direction: ones", "direction: x_hat"))
    for way, marker in zip(("one pass", "two passes", "centered again"), "osD"):
        worst = [by_way[way] for by_way in found["float32"].values()]
        errors.plot(list(found["float32"]), worst, marker=marker, label=way)
    errors.set(title="float32: center again", xscale="log", yscale="log")
    errors.set(xlabel="mean / std of the data", ylabel="largest |error| of x_hat")
    errors.legend()
    return fig


def report(found):
    """The three comparisons as tables."""
    steps = table(
        "Cotangents by hand and by the engine",
        ("of", "largest entry", "largest difference"),
        [(name, size, off) for name, (size, off) in found["steps"].items()],
    )
    rows = [
        (
            name, f"{found['apart'][name]:.1e}",
            *(f"{found[f'along {v}'][name][0]:+.6f}" for v in ("ones", "x_hat")),
        )
        for name in found["terms"]
    ]  # fmt: skip
    stays = found["stays"][0] * found["along x_hat"]["direct"][0]
    geometry = table(
        "Parts of d_x beside their routes, total beside the fused operation; channel 0",
        ("part", "difference", "along ones", "along x_hat"),
        [*rows, ("theory", "0", "0", f"{stays:+.6f}")],
    )
    float32 = table(
        "float32: the largest error of x_hat, for data of spread 1",
        ("mean", *next(iter(found["float32"].values()))),
        [(f"{mean:g}", *errors.values()) for mean, errors in found["float32"].items()],
    )
    return f"{steps}\n\n{geometry}\n\n{float32}"

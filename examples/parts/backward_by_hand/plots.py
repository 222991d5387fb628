"""The drawing, the picture and the tables of backward_by_hand.py."""

import numpy as np

import tinygrad_bn as tg
from support.plotting import figure
from support.tables import table


def drawing(tensors, g, hand, part, theme):
    """The graph, with the gradients named as in the derivation.

    The drawing gives a gradient a name only if their values agree.
    """
    symbols = {f"d_{name}": d for name, d in hand.items()}
    symbols |= {f"{name} part": d for name, d in part.items()}
    title = (
        "The backward pass by hand, on the graph\n"
        "The last column in the box of x contains norms, which do not add up."
    )
    return tg.draw(
        tensors["y"],
        tensors["x"],
        gradient=g,
        symbols=symbols,
        direction="TB",
        theme=theme,
        title=title,
    )


PARTS = {
    "direct": "direct part", "mean": "part through E[x]",
    "variance": "part through Var[x]", "total": "all of d_x",
}  # fmt: skip
METHODS = {
    "one pass": "E[x²] − E[x]²", "two passes": "mean of (x − E[x])²",
    "centered again": "the same, x − E[x] centered again",
}  # fmt: skip


def plot(found, theme):
    """The parts of d_x by row, what each part removes, and the errors in float32."""
    fig, ((rows, geometry), (errors, rest)) = figure(theme, 2, 2)
    for i, (name, d) in enumerate(found["terms"].items()):
        style = {"width": 1 / 5, "hatch": ("", "//", "xx", "..")[i]}
        style["label"] = PARTS[name]
        at = (i - 1.5) / 5
        rows.bar(np.arange(len(d)) + at, d[:, 0], **style)
        components = [found[f"along {v}"][name][0] for v in ("ones", "x_hat")]
        geometry.bar(np.arange(2) + at, components, **style)
    rows.set_title("Three parts make d_x")
    rows.set(xlabel="row of the batch", ylabel="gradient of x, channel 0")
    # Make room for the legend, which belongs to both panels.
    rows.set_ylim(top=1.5 * rows.get_ylim()[1])
    rows.legend(loc="upper center", ncols=2)
    geometry.set_title("Each statistic removes a direction")
    geometry.set_ylabel("sum over rows of part · direction")
    geometry.set_xticks(range(2), ("direction: ones", "direction: x̂"))
    plot_errors(errors, found["float32"])
    plot_negative(rest, found["float32"])
    return fig


def plot_errors(axes, found):
    for (method, label), marker in zip(METHODS.items(), "osD"):
        largest = [by_method[method] for by_method in found.values()]
        axes.plot(list(found), largest, marker=marker, label=label)
    ceiling = [by_method["ceiling"] for by_method in found.values()]
    style = {"color": "C4", "linestyle": ":", "linewidth": 1.2}
    axes.plot(list(found), ceiling, label="ceiling: |x − E[x]| / √eps", **style)
    axes.set(title="float32: how to compute the variance", xscale="log", yscale="log")
    axes.set(xlabel="mean / std of the data", ylabel="largest |error| of x̂")
    axes.set_ylim(top=1e8)
    axes.legend(fontsize=8)


def plot_negative(axes, found):
    negative = [100 * by_method["negative variances"] for by_method in found.values()]
    axes.plot(list(found), negative, marker="o", label="E[x²] − E[x]²")
    axes.set(
        title="In one pass, variances become negative", xscale="log", ylim=(-2, 100)
    )
    axes.set(xlabel="mean / std of the data", ylabel="channels with Var[x] < 0 (%)")
    axes.legend()


def report(found):
    """The closing tables: the derivation, the geometry, and float32."""
    steps = table(
        "Gradients of all tensors, by hand and by the engine",
        ("of", "largest entry", "largest difference"),
        [(name, *sizes) for name, sizes in found["steps"].items()],
    )
    rows = [
        (
            name, f"{found['differences'][name]:.1e}",
            *(f"{found[f'along {v}'][name][0]:+.6f}" for v in ("ones", "x_hat")),
        )
        for name in found["terms"]
    ]  # fmt: skip
    left = found["left"][0] * found["along x_hat"]["direct"][0]
    geometry = table(
        "Parts of d_x, compared with their routes; total, with the fused operation",
        ("part", "difference", "along ones, channel 0", "along x_hat, channel 0"),
        [*rows, ("theory", "0", "0", f"{left:+.6f}")],
    )
    float32 = table(
        "float32: the largest error of x_hat, for data with std 1, by method",
        ("mean", *next(iter(found["float32"].values()))),
        [(f"{mean:g}", *errors.values()) for mean, errors in found["float32"].items()],
    )
    return f"{steps}\n\n{geometry}\n\n{float32}"

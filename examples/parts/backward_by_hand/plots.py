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
    """The parts of d_x by row, what each part removes, and the errors in float32."""
    fig, ((rows, geometry, errors),) = figure(theme, 1, 3, size=(3.8, 3.4))
    for i, (name, d) in enumerate(found["terms"].items()):
        style = {"width": 1 / 5, "hatch": ("", "//", "xx", "..")[i], "label": name}
        at = (i - 1.5) / 5
        rows.bar(np.arange(len(d)) + at, d[:, 0], **style)
        components = [found[f"along {v}"][name][0] for v in ("ones", "x_hat")]
        geometry.bar(np.arange(2) + at, components, **style)
    rows.set_title("Three parts make d_x")
    rows.set(xlabel="row of the batch", ylabel="gradient of x, channel 0")
    # Make room for the legend, which belongs to both panels.
    rows.set_ylim(top=1.4 * rows.get_ylim()[1])
    rows.legend(loc="upper center", ncols=2)
    geometry.set_title("Each statistic removes a direction")
    geometry.set_ylabel("sum over rows of part * direction")
    geometry.set_xticks(range(2), ("direction: ones", "direction: x_hat"))
    for method, marker in zip(("one pass", "two passes", "centered again"), "osD"):
        largest = [by_method[method] for by_method in found["float32"].values()]
        errors.plot(list(found["float32"]), largest, marker=marker, label=method)
    errors.set(title="float32: center again", xscale="log", yscale="log")
    errors.set(xlabel="mean / std of the data", ylabel="largest |error| of x_hat")
    errors.legend()
    return fig


def report(found):
    """The closing tables: the derivation, the geometry, and float32."""
    steps = table(
        "Cotangents, by hand compared with the engine",
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

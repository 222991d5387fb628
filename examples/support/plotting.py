"""The look of all plots: the colors of the drawings, light and dark."""

import argparse
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from support.command_line import picture_name, themes
from tinygrad_bn.draw.theme import THEMES

# Whether a network has batch norm looks the same in every picture that compares both.
NORM_STYLES = {
    True: {"color": "C0", "linestyle": "-", "marker": "o"},
    False: {"color": "C1", "linestyle": "--", "marker": "s"},
}


def use_theme(theme: str) -> None:
    """Give the style of a theme to all plots that are made from now on."""
    colors = THEMES[theme]
    style = {
        "figure.facecolor": colors.background, "axes.facecolor": colors.background,
        "savefig.facecolor": colors.background, "text.color": colors.ink,
        "axes.labelcolor": colors.ink, "axes.edgecolor": colors.border,
        "xtick.color": colors.quiet, "ytick.color": colors.quiet,
        "grid.color": colors.border, "grid.alpha": 0.5, "axes.grid": True,
        "axes.spines.top": False, "axes.spines.right": False, "font.size": 10,
        "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "legend.frameon": False, "legend.fontsize": 9, "lines.linewidth": 1.8,
        "axes.prop_cycle": cycler(
            color=[colors.direct, colors.mean, colors.var, colors.other, colors.quiet],
            linestyle=["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))],
        ),
        "svg.hashsalt": "tinygrad_bn", "savefig.dpi": 160,
    }  # fmt: skip
    matplotlib.rcParams.update(style)


def figure(theme: str, rows: int = 1, columns: int = 1, size=(4.2, 3.2), **subplots):
    """A figure and its axes (always a 2-D array); ``size`` is that of one panel."""
    use_theme(theme)
    fig = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def circles(axes, x, y, label: str | None) -> None:
    """Mark the theory with about a dozen open circles, which a measured line meets."""
    every = slice(None, None, max(len(x) // 12, 1))
    style = {"linestyle": "none", "marker": "o", "fillstyle": "none", "color": "C4"}
    axes.plot(x[every], y[every], label=label, **style)


def save(plot: Callable[[str], Figure], options: argparse.Namespace, name: str) -> None:
    """Save ``plot(theme)`` for each requested theme, and print the paths."""
    options.out.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if options.format == "svg" else None
    for theme in themes(options):
        path = options.out / f"{picture_name(name, theme)}.{options.format}"
        plot(theme).savefig(path, metadata=metadata)
        print(f"picture: {path}")

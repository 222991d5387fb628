"""What the experiments share: options, tables, and the look of their plots."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from data import DataSet, load
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from tinygrad_bn.draw.theme import THEMES

# On matrices as small as those of the experiments, a second BLAS thread only waits.
threadpool_limits(1)


def options(
    question: str, steps: int | None = None, quick_steps: int | None = None
) -> argparse.ArgumentParser:
    """The options of every experiment: its seed, length, pictures and --quick.

    ``question`` is the docstring of the script; ``steps`` and ``quick_steps`` are how
    long training goes on, in full and with --quick (left out where nothing trains).
    """
    parser = argparse.ArgumentParser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seed",
        type=partial(_at_least, 0),
        default=0,
        help="of the first run (default 0)",
    )
    if steps is not None:
        parser.add_argument(
            "--steps",
            type=partial(_at_least, 1),
            help=f"of training (default {steps})",
        )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of pictures"
    )
    parser.add_argument("--theme", choices=(*sorted(THEMES), "both"), default="light")
    parser.add_argument("--format", choices=("svg", "png", "pdf"), default="png")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes"
    )
    parser.set_defaults(full_steps=steps, quick_steps=quick_steps)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None):
    """The options given, with ``steps`` filled in from --quick."""
    given = parser.parse_args(arguments)
    if "steps" in given and given.steps is None:
        given.steps = given.quick_steps if given.quick else given.full_steps
    return given


def _at_least(least: int, word: str) -> int:
    if not word.isdecimal() or int(word) < least:
        demand = f"must be a whole number of at least {least}"
        raise argparse.ArgumentTypeError(f"{demand}, but {word!r} was received")
    return int(word)


def rate(word: str) -> float:
    """A learning rate, as the ``type`` of an option."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        demand = "must be a number of at least 0"
        raise argparse.ArgumentTypeError(f"{demand}, but {word!r} was received")
    return value


def seeds(first: int, quick: bool = False) -> range:
    """The seeds of an experiment: three from the first on, or with --quick that one."""
    return range(first, first + (1 if quick else 3))


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """The options of experiments on images: --data and --mnist-dir."""
    parser.add_argument(
        "--data",
        choices=("digits", "mnist"),
        help="default: mnist if its folder is given, else digits",
    )
    parser.add_argument(
        "--mnist-dir",
        type=Path,
        default=os.environ.get("MNIST_DIR"),
        help="folder of the four IDX files (default $MNIST_DIR)",
    )


def images(given: argparse.Namespace, dtype=np.float32) -> DataSet:
    """The images asked for, standardized: nothing but --data mnist downloads."""
    name = given.data or ("mnist" if given.mnist_dir else "digits")
    try:
        return load(name, dtype, given.mnist_dir)
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Measured numbers beside the theory, as aligned text."""
    lines = [tuple(head), *(tuple(map(_text, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    body = (
        "  ".join(
            word.ljust(width) if i == 0 else word.rjust(width)
            for i, (word, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
    return "\n".join([title, *(f"  {line}" for line in body)])


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def largest(array) -> float:
    """The size of the largest entry, of either sign."""
    return float(np.abs(array).max())


def apart(found, expected) -> float:
    """The largest difference, beside the largest value."""
    return largest(np.subtract(found, expected)) / largest(expected)


def late_loss(losses: Sequence[float]) -> float:
    """The median over the last quarter of the steps, which spikes do not move."""
    return float(np.median(losses[-(len(losses) // 4 or 1) :]))


def span(values: Iterable[float]) -> str:
    """The smallest and the largest of some values, as text: what the seeds gave."""
    values = [f"{value:.3g}" for value in sorted(values)]
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def figure(theme: str, rows: int = 1, columns: int = 1, size=(4.2, 3.2), **subplots):
    """A figure and its axes (always a 2-D array) in the colors of the drawings."""
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
        "axes.prop_cycle": plt.cycler(
            color=[colors.direct, colors.mean, colors.var, colors.other, colors.quiet],
            linestyle=["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))],
        ),
        "svg.hashsalt": "tinygrad_bn", "savefig.dpi": 160,
    }  # fmt: skip
    plt.rcParams.update(style)
    fig, axes = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False,
        layout="constrained", **subplots,
    )  # fmt: skip
    return fig, axes


def circles(axes, x, y, label: str) -> None:
    """Theory: about a dozen open circles, for measured lines to pass through."""
    every = slice(None, None, max(len(x) // 12, 1))
    style = {"linestyle": "none", "marker": "o", "fillstyle": "none", "color": "C4"}
    axes.plot(x[every], y[every], label=label, **style)


def themes(given) -> list[str]:
    """The themes in which pictures are asked for."""
    return sorted(THEMES) if given.theme == "both" else [given.theme]


def save(plot: Callable[[str], Figure], given, name: str) -> None:
    """Plot in the theme asked for, or both, save in the format, and say where."""
    given.out.mkdir(parents=True, exist_ok=True)
    for theme in themes(given):
        fig = plot(theme)
        suffix = "-dark" if theme == "dark" else ""
        path = given.out / f"{name}{suffix}.{given.format}"
        fig.savefig(path, metadata={"Date": None} if given.format == "svg" else None)
        plt.close(fig)
        print(f"picture: {path}")

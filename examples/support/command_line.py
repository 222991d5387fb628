"""The command lines of the examples: their options, and the data they request."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from threadpoolctl import threadpool_limits

from support.data import DataSet, load

THEMES = ("light", "dark")


def drawing_options(question: str) -> argparse.ArgumentParser:
    """The options of a script that draws graphs; ``question`` is its docstring."""
    return _parser(question, "svg", ("svg", "png", "pdf", "html", "dot"))


def experiment_options(
    question: str,
    steps: int | None = None,
    quick_steps: int | None = None,
    fewest_steps: int = 1,
) -> argparse.ArgumentParser:
    """The options of an experiment; ``question`` is its docstring.

    ``steps`` and ``quick_steps`` are the default numbers of training steps, without and
    with --quick, and ``fewest_steps`` is the smallest number that --steps accepts. An
    experiment that does not train leaves them out.
    """
    parser = _parser(question, "png", ("svg", "png", "pdf"))
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="first seed (default 0)"
    )
    if steps is not None:
        parser.add_argument(
            "--steps",
            type=whole_number(fewest_steps),
            help=f"training steps (default {steps})",
        )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="seconds instead of up to two minutes; numbers and orderings may differ",
    )
    parser.set_defaults(full_steps=steps, quick_steps=quick_steps)
    return parser


def _parser(question, extension, extensions) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = "(default %(default)s)"
    add("--out", type=folder, default="out", help=f"folder for the pictures {default}")
    theme = {"choices": (*THEMES, "both"), "default": "light"}
    add("--theme", **theme, help=f"colors of the pictures {default}")
    file_format = {"choices": extensions, "default": extension}
    add("--format", **file_format, help=f"of the pictures {default}")
    return parser


def add_image_options(
    parser: argparse.ArgumentParser, names: Sequence[str] = ("digits", "mnist")
) -> None:
    """The options --data, which names one of ``names``, and --mnist-dir."""
    parser.add_argument(
        "--data",
        choices=names,
        help="what to learn (default: mnist if its folder is given, otherwise digits)",
    )
    parser.add_argument(
        "--mnist-dir",
        type=Path,
        default=os.environ.get("MNIST_DIR") or None,
        help="folder of the four IDX files (default $MNIST_DIR)",
    )


def data_name(options: argparse.Namespace) -> str:
    """The requested data set."""
    return options.data or ("mnist" if options.mnist_dir else "digits")


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the command line; without --steps, --quick decides how many steps to take.

    Also limit BLAS to one thread: on matrices as small as those of the examples, a
    second thread only waits.
    """
    options = parser.parse_args(arguments)
    if "steps" in options and options.steps is None:
        options.steps = options.quick_steps if options.quick else options.full_steps
    threadpool_limits(1)
    if getattr(options, "quick", False):
        print(
            "--quick: short runs, whose numbers and orderings may differ from full ones"
        )
    return options


def whole_number(at_least: int) -> Callable[[str], int]:
    """The ``type`` of an option that must be a whole number, ``at_least`` or more."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < at_least:
            demand = f"must be a whole number of at least {at_least}"
            raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
        return int(text)

    return convert


def rate(text: str) -> float:
    """The ``type`` of an option that must be a learning rate."""
    value = _number(text)
    if not 0 <= value < math.inf:
        demand = "must be a number of at least 0"
        raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
    return value


def number(least: float, most: float) -> Callable[[str], float]:
    """The ``type`` of an option that must be a number from ``least`` to ``most``."""

    def convert(text: str) -> float:
        value = _number(text)
        if not least <= value <= most:
            demand = f"must be a number from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
        return value

    return convert


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def folder(text: str) -> Path:
    """The ``type`` of an option that names a folder for results, which may be missing.

    An error now is better than one after minutes of measuring.
    """
    path = Path(text)
    try:
        _try_to_write_below(path)
    except OSError as error:
        raise _unusable("folder", text, error) from None
    return path


def result_file(text: str) -> Path:
    """The ``type`` of an option that names a file for results, like ``folder``."""
    path = Path(text)
    try:
        if path.exists():
            path.open("a").close()
        else:
            _try_to_write_below(path.parent)
    except OSError as error:
        raise _unusable("file", text, error) from None
    return path


def _try_to_write_below(path: Path) -> None:
    existing = (place for place in (path, *path.parents) if place.exists())
    TemporaryFile(dir=next(existing, path)).close()


def _unusable(kind: str, text: str, error: OSError) -> argparse.ArgumentTypeError:
    demand = f"must be a {kind} to write to"
    return argparse.ArgumentTypeError(
        f"{demand}, but {text!r} was received: {error.strerror}"
    )


def seeds(first: int, quick: bool = False) -> range:
    """The seeds of an experiment: three from ``first`` on, or one with --quick."""
    return range(first, first + (1 if quick else 3))


def images(options: argparse.Namespace, dtype=np.float32) -> DataSet:
    """The requested images, standardized. Only --data mnist may download anything."""
    try:
        return load(data_name(options), dtype, options.mnist_dir)
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


def themes(options: argparse.Namespace) -> tuple[str, ...]:
    """The requested themes."""
    return THEMES if options.theme == "both" else (options.theme,)


def picture_name(name: str, theme: str) -> str:
    """The file name of a picture, without its extension."""
    return f"{name}-dark" if theme == "dark" else name

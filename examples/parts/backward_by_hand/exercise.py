"""The exercise of backward_by_hand.py: a file to fill in, which is then checked.

If the file cannot be read or run, the script ends with a line that says what to fix.
Errors in the computed d_x are found by ``assessment.py``.
"""

import argparse
import sys
import traceback
from pathlib import Path

import numpy as np

from parts.backward_by_hand.assessment import assess

EXERCISE = '''"""The backward pass of batch norm: fill in d_x, and have it checked."""

import numpy as np


def d_x(g, x_hat, gamma, inv_std):
    """The gradient of x (m, C) from g = dL/dy (m, C). All are NumPy arrays, with

        y = gamma * x_hat + beta            gamma (C,)
        x_hat = (x - mean) * inv_std        inv_std = 1 / sqrt(var + eps), (1, C)

    where mean and var are means over the m rows. The gradient reaches x by three
    routes, which add up: directly, through the mean, and through the variance.
    """
    return ...
'''


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options --exercise and --check, which exclude each other."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--exercise", type=Path, metavar="FILE", help="write the exercise"
    )
    modes.add_argument("--check", type=Path, metavar="FILE", help="check an answer")


def write(path: Path) -> None:
    """Write the file to fill in, unless it already exists."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXERCISE)
    except OSError as error:
        sys.exit(f"--exercise {path}: must be a new file, but: {error.strerror}.")
    print(f"Fill in d_x in {path}, then have it checked with --check {path}")


def check(path: Path, tensors, g, parts) -> dict[str, str]:
    """Print and return the findings about the d_x in a file."""
    arrays = g, *(tensors[n].data for n in ("x_hat", "gamma", "inv_std"))
    findings = assess(read(path, *arrays), parts, *arrays)
    print(*(f"{name:10}{text}" for name, text in findings.items()), sep="\n")
    return findings


def read(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """The result of the reader's d_x, or exit with a line that says what to fix."""
    answer = _call(path, inputs)
    if answer is None or answer is ...:
        sys.exit(f"{path}: d_x is not filled in yet: it returned {answer}.")
    try:
        answer = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        sys.exit(f"{path}: d_x must return an array, but returned {answer!r:.60}.")
    shape = inputs[0].shape
    if answer.shape != shape:
        sys.exit(
            f"{path}: d_x must have the shape of x, {shape}, but has {answer.shape}. "
            "Means over the rows have the shape (C,), or (1, C) with keepdims=True."
        )
    if not np.isfinite(answer).all():
        sys.exit(f"{path}: d_x must be finite, but contains inf or nan.")
    return answer


def _call(path, inputs):
    names = {"__name__": "answer"}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)  # noqa: S102
        if "d_x" in names:
            return names["d_x"](*(array.copy() for array in inputs))
    except OSError as error:
        complaint = f"must be a file to read, but: {error.strerror}"
        sys.exit(f"--check {path}: {complaint}. Write one with --exercise.")
    except SyntaxError as error:
        sys.exit(f"{path}, line {error.lineno}: Python cannot read it: {error.msg}.")
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever the reader wrote)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else path
        what = "".join(traceback.format_exception_only(error)).strip()
        sys.exit(f"{where}: it stopped with {what}.")
    complaint = "must define d_x(g, x_hat, gamma, inv_std), but does not"
    sys.exit(f"{path}: {complaint}. Write a new file with --exercise.")

"""The exercise of backward_by_hand.py: a file to fill in, and the verdict on it.

In each channel, any d_x that can come of the right ingredients is a combination of the
three parts of the right one. A part that is in it with the factor 1 is right; which
other factor it is tells what was forgotten.
"""

import argparse
import sys
import traceback
from pathlib import Path

import numpy as np

EXACT, ROUNDING = 1e-10, 1e-4  # relative to a part
EXERCISE = '''"""The backward pass of batch norm: fill in d_x, and have it checked."""

import numpy as np


def d_x(g, x_hat, gamma, inv_std):
    """The gradient of x (m, C) from g = dL/dy (m, C), all of them NumPy arrays, where

        y = gamma * x_hat + beta            gamma (C,)
        x_hat = (x - mean) * inv_std        inv_std = 1 / sqrt(var + eps), (1, C)

    and mean and var are means over the m rows. The gradient comes back to x by three
    ways, which add up: directly, through the mean, and through the variance.
    """
    return ...
'''
TERMS = {
    "direct": "gamma * inv_std * g",
    "mean": "-gamma * inv_std * mean(g)",
    "variance": "-gamma * inv_std * x_hat * mean(g * x_hat)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options ``--exercise`` and ``--check``, of which one may be given."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--exercise", type=Path, metavar="FILE", help="to be written")
    modes.add_argument("--check", type=Path, metavar="FILE", help="to be judged")


def write(path: Path) -> None:
    """Write the file to be filled in, but never over one that is there."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXERCISE)
    except OSError as error:
        sys.exit(f"--exercise {path}: must be a new file, but: {error.strerror}.")
    print(f"Fill in d_x in {path}, then have it checked with --check {path}")


def check(path: Path, tensors, g, parts) -> dict[str, str]:
    """Print the verdicts on the d_x in a file, and hand them back."""
    x_hat, gamma, inv_std = (tensors[n].data for n in ("x_hat", "gamma", "inv_std"))
    verdicts = judge(read(path, g, x_hat, gamma, inv_std), parts, gamma, inv_std)
    print(*(f"{name:10}{text}" for name, text in verdicts.items()), sep="\n")
    return verdicts


def read(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """What the reader's d_x makes of the inputs; exits with what to mend if nothing."""
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
            "Means over the rows are of shape (C,), or (1, C) with keepdims=True."
        )
    if not np.isfinite(answer).all():
        sys.exit(f"{path}: d_x must be finite, but contains inf or nan.")
    return answer


def _call(path, inputs):
    try:
        names = {"__name__": "answer"}
        exec(compile(path.read_bytes(), str(path), "exec"), names)  # noqa: S102
        if "d_x" in names:
            return names["d_x"](*(array.copy() for array in inputs))
        complaint = "must define d_x(g, x_hat, gamma, inv_std), but does not"
        sys.exit(f"{path}: {complaint}. Write a new file with --exercise.")
    except OSError as error:
        complaint = f"must be a file to read, but: {error.strerror}"
        sys.exit(f"--check {path}: {complaint}. Write one with --exercise.")
    except SyntaxError as error:
        sys.exit(f"{path}, line {error.lineno}: Python cannot read it: {error.msg}.")
    except Exception as error:  # noqa: BLE001 (whatever the reader wrote)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else path
        sys.exit(f"{where}: it stopped with {type(error).__name__}: {error}.")


def judge(d_x, parts, gamma, inv_std) -> dict[str, str]:
    """A verdict for each of the ``parts`` of d_x, and for what is in it besides.

    Shapes: d_x and each part (m, C), gamma (C,), inv_std (1, C).
    """
    m = len(d_x)
    mistakes = {
        "it has the wrong sign": -1,
        "it is there twice": 2,
        "divide by m: a sum stands where a mean belongs": m,
        "divide by m once, not twice": 1 / m,
        "divide by m, not by m - 1": m / (m - 1),
        "gamma is missing": 1 / gamma,
        "gamma is there twice": gamma,
        "inv_std is missing": 1 / inv_std,
        "inv_std is there twice": inv_std,
        "gamma and inv_std are missing": 1 / (gamma * inv_std),
    }
    bases = np.stack(list(parts.values()), axis=-1)
    factors = [np.linalg.lstsq(bases[:, c], d_x[:, c])[0] for c in range(len(gamma))]
    rest = np.abs(d_x - np.einsum("mcp,cp->mc", bases, factors)).max()
    pure = rest < ROUNDING * np.abs(bases).max()
    verdicts = {
        name: _verdict(factor, {f"it is missing: {TERMS[name]}": 0} | mistakes, pure)
        for name, factor in zip(parts, np.transpose(factors))
    }
    if not pure:
        verdicts["besides"] = f"wrong: up to {rest:.2g} came by none of the three ways"
    return verdicts


def _verdict(factor, mistakes, pure):
    off = np.abs(factor - 1).max()
    if off < EXACT:
        return "right"
    if off < ROUNDING:
        return f"off by rounding: {off:.0e} of it"
    for mistake, expected in mistakes.items():
        if np.allclose(factor, expected, rtol=ROUNDING, atol=ROUNDING):
            return f"wrong: {mistake}"
    if not pure:
        return "wrong, or hidden by what is in d_x besides"
    times = ", ".join(f"{f:.3g}" for f in factor)
    return f"wrong: it is {times} times what it must be, by channel"

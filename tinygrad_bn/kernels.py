"""NumPy code for speed and accuracy, separate from the mathematics.

A sum over the first axis is written as a product with a row of ones, because BLAS is
several times faster at it than ``np.sum``.

This file imports no other; look here when needed.

Left out on purpose: compiled code, threads, and a choice of kernel by the size of the
input.
"""

import functools
import math

import numpy as np


def sum_of_rows(x: np.ndarray) -> np.ndarray:
    """The sum over the first axis of an array of floats."""
    return _ones(len(x), x.dtype).dot(x)


def mean_of_rows(x: np.ndarray) -> np.ndarray:
    """The mean over the first axis of an array of floats, in at least float32."""
    return _shares(len(x), x.dtype).dot(x)


@functools.lru_cache(maxsize=16)
def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(n, dtype)


@functools.lru_cache(maxsize=16)
def _shares(n: int, dtype: np.dtype) -> np.ndarray:
    # In float16, 1 / n would be rounded to three digits.
    return np.full(n, 1 / n, np.promote_types(dtype, np.float32))


def norm(x: np.ndarray) -> float:
    """The Euclidean norm in float64, also where squares would overflow or underflow."""
    x = x.astype(np.float64)
    largest = float(np.abs(x).max(initial=0))
    if not 0 < largest < math.inf:
        return largest
    return largest * float(np.linalg.norm(x / largest))


def as_floats(x: np.ndarray) -> np.ndarray:
    """``x``, with integers and booleans as float64, because they would wrap around."""
    return x.astype(float) if x.dtype.kind in "biu" else x


def relu(x: np.ndarray) -> np.ndarray:
    """``max(x, 0)``, elementwise."""
    # NumPy compares two arrays with vector instructions, but not an array and a number.
    x = np.asanyarray(x)
    return np.maximum(x, np.zeros(x.shape, int if x.dtype == bool else x.dtype))


# exp overflows to infinity only where 1 / (1 + infinity) = 0 is the right answer.
@np.errstate(over="ignore")
def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + e^-x)``, elementwise."""
    return 1 / (1 + np.exp(-as_floats(np.asanyarray(x))))

"""Functions composed of primitives: products, reductions, and joining.

They accept tensors and arrays, and NumPy's conventions for ``axis``. What they compute
is on the tape as primitives; ``mean`` and ``var`` are composites, which pictures can
fold into one box.

This file comes after ``ops.py`` in the reading order.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from . import errors, ops
from .axes import axes_of, count, shape_with_ones, shape_without
from .ops import broadcast_to, max_to, reshape, sum_to
from .scopes import composite
from .tape import Node

if TYPE_CHECKING:
    from .tensor import Tensor

Array = TypeVar("Array", "Tensor", np.ndarray)


def matmul(a, b):
    """The matrix product over the last two axes, broadcast over those before them.

    Shapes: (..., n, k) @ (..., k, p) -> (..., n, p). A vector stands for a row on the
    left and for a column on the right, as in ``numpy.matmul``.

    Raises: ``ValueError`` for shapes that do not fit.
    """
    a, b = (x if isinstance(x, Node | np.ndarray) else np.asarray(x) for x in (a, b))
    if min(a.ndim, b.ndim) == 0 or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ops.matmul.refusal((a, b), ValueError())
    rows = reshape(a, shape=(1, *a.shape)) if a.ndim == 1 else a
    columns = reshape(b, shape=(*b.shape, 1)) if b.ndim == 1 else b
    if rows.shape[:-2] != columns.shape[:-2]:
        try:
            batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        except ValueError:
            raise ops.matmul.refusal((a, b), ValueError()) from None
        rows, columns = _with_batch(batch, rows), _with_batch(batch, columns)
    y = ops.matmul(rows, columns)
    if a.ndim > 1 and b.ndim > 1:
        return y
    matrix = y.shape[-2:][a.ndim == 1 : 2 - (b.ndim == 1)]
    return reshape(y, shape=y.shape[:-2] + matrix)


def _with_batch(batch: tuple[int, ...], x):
    if x.shape[:-2] == batch:
        return x
    return broadcast_to(x, shape=(*batch, *x.shape[-2:]))


# --- Reductions -----------------------------------------------------------------------


def reduce_sum(x: Array, axis=None, keepdims: bool = False) -> Array:
    """The sum over ``axis`` (None: all)."""
    axes = axes_of(x, axis)
    if keepdims:
        return sum_to(x, shape=shape_with_ones(x, axes))
    if axes == tuple(range(len(axes))):
        return sum_to(x, shape=shape_without(x, axes))
    sums = sum_to(x, shape=shape_with_ones(x, axes))
    return reshape(sums, shape=shape_without(x, axes))


def reduce_max(x: Array, axis=None, keepdims: bool = False) -> Array:
    """The largest value over ``axis`` (None: all); ties share the gradient equally."""
    axes = axes_of(x, axis)
    y = max_to(x, shape=shape_with_ones(x, axes))
    return y if keepdims else reshape(y, shape=shape_without(x, axes))


@composite
def mean(x: Array, axis=None, keepdims: bool = False) -> Array:
    """The mean over ``axis`` (None: all)."""
    m = count(x, axes_of(x, axis))
    return reduce_sum(x, axis, keepdims) * (1 / m if m else math.nan)


@composite
def var(x: Array, axis=None, keepdims: bool = False) -> Array:
    """The variance over ``axis`` (None: all): the mean of the squared deviations.

    It divides by the number of values, as ``numpy.var`` does and batch norm requires.
    """
    return mean((x - mean(x, axis, keepdims=True)) ** 2, axis, keepdims)


# --- Shapes ---------------------------------------------------------------------------


def flatten(x: Array, start_axis: int = 0, end_axis: int = -1) -> Array:
    """One axis in place of those from ``start_axis`` to ``end_axis``, both included.

    Raises: ``ValueError`` for axes that ``x`` does not have, or in the wrong order.
    """
    if x.ndim == 0:
        x = reshape(x, shape=(1,))
    (start,), (end,) = axes_of(x, start_axis), axes_of(x, end_axis)
    if start > end:
        raise errors.flatten_refused(start_axis, end_axis, x)
    merged = math.prod(x.shape[start : end + 1])
    return reshape(x, shape=(*x.shape[:start], merged, *x.shape[end + 1 :]))


# --- Joining --------------------------------------------------------------------------


def concatenate(tensors: Sequence, axis: int = 0):
    """Join tensors along an axis that they have.

    Raises: ``ValueError`` for no tensors, or shapes that differ elsewhere.
    """
    tensors = _at_least_one("concatenate", tensors)
    (axis,) = axes_of(tensors[0], axis)
    return ops.concatenate(*tensors, axis=axis)


def stack(tensors: Sequence, axis: int = 0):
    """Join tensors of one shape along a new axis.

    Raises: ``ValueError`` for no tensors, shapes that differ, or an axis out of range.
    """
    tensors = _at_least_one("stack", tensors)
    shape = tensors[0].shape
    if any(x.shape != shape for x in tensors):
        raise errors.stack_of_shapes(tensors)
    (axis,) = axes_of(np.empty((*shape, 0)), axis)
    longer = (*shape[:axis], 1, *shape[axis:])
    return concatenate([reshape(x, shape=longer) for x in tensors], axis)


def _at_least_one(function: str, tensors: Sequence) -> tuple:
    if not (tensors := tuple(tensors)):
        raise errors.nothing_to_join(function)
    return tuple(x if isinstance(x, Node) else np.asarray(x) for x in tensors)

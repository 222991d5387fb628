"""Axes and shapes: what NumPy's ``axis`` means, and what is left of a shape without it.

All functions accept arrays and tensors: they only read ``x.ndim`` and ``x.shape``.

This file comes after ``errors.py`` in the order of imports; look here when needed.

Left out on purpose: axes with names.
"""

import functools
import math
import operator
from typing import Any

import numpy as np

from . import errors
from .arguments import refuse_masked


def axes_of(x: Any, axis: Any, added: int = 0) -> tuple[int, ...]:
    """The axes meant by NumPy's ``axis``: None (all), one, several, or from the end.

    They are sorted and counted from the start. ``added`` is the number of axes that the
    result has in addition to those of ``x``.

    Raises: ``ValueError`` for an axis that is out of range or repeated.
    """
    if axis is None:
        return tuple(range(x.ndim))
    axes = axis
    if isinstance(axis, int):
        axes = (axis,)
    elif not isinstance(axis, tuple):
        refuse_masked(axis, "axis")
        axes = np.asarray(axis).ravel().tolist()
    try:
        numbers = tuple(map(operator.index, axes))
    except TypeError:
        raise errors.axis_refused(axis, x, added) from None
    found = _sorted_axes(x.ndim + added, numbers)
    if found is None:
        raise errors.axis_refused(axis, x, added)
    return found


@functools.cache
def _sorted_axes(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes, sorted and counted from the start; None if one is wrong or repeated."""
    found = tuple(sorted(i + ndim if i < 0 else i for i in axes))
    sensible = len(set(found)) == len(found) and all(0 <= i < ndim for i in found)
    return found if sensible else None


def one_axis_of(x: Any, axis: Any, added: int = 0) -> int:
    """The axis meant by NumPy's ``axis``, which must be a single one."""
    axes = () if axis is None else axes_of(x, axis, added)
    if len(axes) != 1:
        raise errors.one_axis_needed(axis, x)
    return axes[0]


def shape_with_ones(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``x`` with 1 for each of ``axes``: that of a sum with keepdims."""
    return _split(x.shape, axes)[0]


def shape_without(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``x`` without ``axes``: that of a sum over them."""
    return _split(x.shape, axes)[1]


def count(x: Any, axes: tuple[int, ...]) -> int:
    """How many values of ``x`` a sum over ``axes`` adds up."""
    return _split(x.shape, axes)[2]


@functools.lru_cache
def _split(shape: tuple, axes: tuple) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    ones = tuple(1 if i in axes else n for i, n in enumerate(shape))
    rest = tuple(n for i, n in enumerate(shape) if i not in axes)
    return ones, rest, math.prod(shape[i] for i in axes)


def as_rows(x: Any, axes: tuple[int, ...]) -> Any:
    """``x`` as a matrix: a row per value along ``axes``, a column per channel."""
    if x.ndim == 2 and axes == (0,):
        return x
    return x.transpose(_channels_last(x, axes)).reshape(count(x, axes), -1)


def from_rows(rows: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """The matrix in the shape of ``x`` again."""
    if x.ndim == 2 and axes == (0,):
        return rows
    order = _channels_last(x, axes)
    return rows.reshape([x.shape[i] for i in order]).transpose(np.argsort(order))


def _channels_last(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    return (*axes, *(i for i in range(x.ndim) if i not in axes))


def one_shape(numbers: tuple) -> tuple:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    refuse_masked(numbers, "shape")
    single = len(numbers) == 1 and not hasattr(numbers[0], "__index__")
    return tuple(numbers[0]) if single else numbers


def shape_with_blank_filled(x: Any, shape: tuple) -> tuple[int, ...]:
    """The shape with its -1, if any, replaced by what is left over.

    Raises: ``ValueError`` for a shape that ``x`` does not fit into.
    """
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known and x.size % known == 0:
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    if math.prod(shape) != x.size or any(n < 0 for n in shape):
        raise errors.reshape_refused(x, shape)
    return shape


def order_of_axes(x: Any, axes: tuple) -> tuple[int, ...]:
    """The axes counted from the start, in the order given; reversed if none are given.

    Raises: ``ValueError`` unless each axis of ``x`` is named once.
    """
    axes = axes or tuple(range(x.ndim))[::-1]
    axes = tuple(i + x.ndim if i < 0 else i for i in axes)
    if sorted(axes) != list(range(x.ndim)):
        raise errors.transpose_refused(x, axes)
    return axes

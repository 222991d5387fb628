"""Functions composed of primitives: products, reductions, softmax, shapes and joining.

They accept tensors and arrays, and follow NumPy's conventions for ``axis``. The tape
records their primitives. (Only ``concatenate`` is an operation of its own.) Pictures
can fold those that are composites, such as ``var`` and ``softmax``, into one box.

This file comes after ``ops.py`` in the order of imports.

Left out on purpose: einsum, cumulative sums, and weights for means.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from . import errors, ops
from .arguments import contains, refuse_masked, refuse_unreal
from .axes import (
    axes_of,
    count,
    one_axis_of,
    one_shape,
    shape_with_ones,
    shape_without,
)
from .kernels import as_floats
from .ops import (
    astype,
    equal,
    exp,
    getitem,
    log,
    max_to,
    min_to,
    reshape,
    sqrt,
    sum_to,
)
from .scopes import composite
from .tape import Node, Operation

if TYPE_CHECKING:  # Annotations name Tensor, but tensor.py imports this file.
    from .tensor import Tensor

Array = TypeVar("Array", "Tensor", np.ndarray)
Function = TypeVar("Function", bound=Callable)


def _tensor_or_array(x: Any, function: str) -> Any:
    """``x`` itself, or lists and numbers as an array."""
    if isinstance(x, Node) or type(x) is np.ndarray:
        return x
    if contains(Node, x):
        raise errors.sequence_of_tensors(function)
    refuse_masked(x, function)
    refuse_unreal(x, function)
    return np.asarray(x)


@overload
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray: ...
@overload
def matmul(a: Any, b: Any) -> "Tensor": ...
def matmul(a: Any, b: Any) -> Any:
    """The matrix product over the last two axes, broadcast over those before them.

    Shapes: (..., n, k) @ (..., k, p) -> (..., n, p). A vector stands for a row on the
    left and for a column on the right, as in ``numpy.matmul``.

    Raises: ``ValueError`` for shapes that do not fit.
    """
    a, b = _tensor_or_array(a, "matmul"), _tensor_or_array(b, "matmul")
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


def _with_batch(batch: tuple[int, ...], x: Any) -> Any:
    if x.shape[:-2] == batch:
        return x
    return ops.broadcast_to(x, shape=(*batch, *x.shape[-2:]))


# --- Reductions -----------------------------------------------------------------------


def reduce_sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The sum over ``axis`` (None: all)."""
    axes = axes_of(x, axis)
    if keepdims:
        return sum_to(x, shape=shape_with_ones(x, axes))
    if axes == tuple(range(len(axes))):
        return sum_to(x, shape=shape_without(x, axes))
    sums = sum_to(x, shape=shape_with_ones(x, axes))
    return reshape(sums, shape=shape_without(x, axes))


def reduce_max(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The largest value over ``axis`` (None: all); ties share the gradient equally."""
    axes = axes_of(x, axis)
    y = max_to(x, shape=shape_with_ones(x, axes))
    return y if keepdims else reshape(y, shape=shape_without(x, axes))


def reduce_min(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The smallest value over ``axis`` (None: all); ties share the gradient equally."""
    axes = axes_of(x, axis)
    y = min_to(x, shape=shape_with_ones(x, axes))
    return y if keepdims else reshape(y, shape=shape_without(x, axes))


def float16_in_float32(function: Function) -> Function:
    """Decorate a function that adds up values, so that it adds float16 in float32.

    NumPy does the same for means, because a sum of float16 overflows above 65,504. The
    dtype of the result does not change.
    """

    @functools.wraps(function)
    def added_in_float32(x, *others, **params):
        if getattr(x, "dtype", None) != np.float16:
            return function(x, *others, **params)
        y = function(astype(x, dtype=np.dtype("float32")), *others, **params)
        dtypes = {getattr(a, "dtype", x.dtype) for a in (*others, *params.values())}
        floats = [dtype for dtype in dtypes if dtype.kind == "f"]
        return astype(y, dtype=np.result_type(x.dtype, *floats))

    return added_in_float32  # type: ignore[return-value]


@composite
@float16_in_float32
def mean(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The mean over ``axis`` (None: all)."""
    m = count(x, axes_of(x, axis))
    return reduce_sum(x, axis, keepdims) * (1 / m if m else math.nan)


@composite
@float16_in_float32
def var(x: Array, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Array:
    """The variance over ``axis`` (None: all): the mean of the squared deviations.

    It divides by the number of values, as ``numpy.var`` does and batch norm requires.
    ``ddof`` is subtracted from that number: with 1, the variance is unbiased.

    Raises: ``ValueError`` for a ``ddof`` that leaves nothing to divide by.
    """
    y = mean((x - mean(x, axis, keepdims=True)) ** 2, axis, keepdims)
    if not ddof:
        return y
    m = count(x, axes_of(x, axis))
    if m <= ddof:
        raise errors.ddof_refused(ddof, m, x)
    return y * (m / (m - ddof))


@composite
@float16_in_float32
def std(x: Array, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Array:
    """The standard deviation over ``axis`` (None: all): the root of the variance.

    It is 0 with gradient 0 where all values are equal.
    """
    axes = axes_of(x, axis)
    first = tuple(slice(1) if i in axes else slice(None) for i in range(x.ndim))
    # Subtracting a constant does not change the variance. Subtracting the first value
    # makes the variance of equal values exactly 0; otherwise their mean would be
    # rounded, and the variance would be slightly larger.
    variance = var(x - as_floats(np.asarray(x))[first], axes, keepdims, ddof)
    # The square root has no slope at 0, so take the root of 1 there and multiply by 0.
    zero = equal(variance, 0)
    return sqrt(variance + zero) * (1 - zero)


# --- Softmax --------------------------------------------------------------------------

# The largest value is subtracted first, so that no exponential overflows. It may be a
# constant, because neither the results nor their derivatives depend on it.


@composite
@float16_in_float32
def softmax(x: Array, axis: Any = -1) -> Array:
    """``exp(x) / sum(exp(x))`` over ``axis``: a probability distribution."""
    x = _tensor_or_array(x, "softmax")
    powers = exp(x - _largest(x, axis))
    return powers / reduce_sum(powers, axis, keepdims=True)


@composite
@float16_in_float32
def log_softmax(x: Array, axis: Any = -1) -> Array:
    """``log(softmax(x))``, which stays finite where a probability rounds to 0."""
    x = _tensor_or_array(x, "log_softmax")
    z = x - _largest(x, axis)
    return z - log(reduce_sum(exp(z), axis, keepdims=True))


@composite
@float16_in_float32
def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """``log(sum(exp(x)))``, a smooth maximum, over ``axis`` (None: all)."""
    x = _tensor_or_array(x, "logsumexp")
    largest = _largest(x, axis)
    y = log(reduce_sum(exp(x - largest), axis, keepdims=True)) + largest
    return y if keepdims else reshape(y, shape=shape_without(x, axes_of(x, axis)))


def _largest(x: Any, axis: Any) -> np.ndarray:
    """The largest values over ``axis`` as constants; 0 where they are not finite."""
    values, axes = as_floats(np.asarray(x)), axes_of(x, axis)
    largest = np.max(values, axis=axes, keepdims=True, initial=-np.inf)
    return np.where(np.isfinite(largest), largest, 0)


# --- Limits ---------------------------------------------------------------------------


def clip(x: Array, low: float | None = None, high: float | None = None) -> Array:
    """``x``, limited to the range from ``low`` to ``high``; None leaves a side open.

    The slope is 1 inside and at the bounds, and 0 outside.

    Raises: ``TypeError`` for bounds that are not numbers.
    """
    x = _tensor_or_array(x, "clip")
    numbers = all(bound is None or isinstance(bound, Real) for bound in (low, high))
    if not numbers or low is None and high is None:
        raise errors.bounds_refused(x, low, high)
    return ops.clip(x, low=low, high=high)


# --- Shapes ---------------------------------------------------------------------------


def flatten(x: Array, start_axis: int = 0, end_axis: int = -1) -> Array:
    """Merge the axes from ``start_axis`` to ``end_axis``, both included, into one.

    Raises: ``ValueError`` for axes that ``x`` does not have, or in the wrong order.
    """
    x = x if x.ndim else reshape(x, shape=(1,))
    start: int = one_axis_of(x, start_axis)
    end: int = one_axis_of(x, end_axis)
    if start > end:
        raise errors.flatten_refused(start_axis, end_axis, x)
    merged = math.prod(x.shape[start : end + 1])
    return reshape(x, shape=(*x.shape[:start], merged, *x.shape[end + 1 :]))


def squeeze(x: Array, axis: Any = None) -> Array:
    """``x`` without the axes of length 1: those given, or all.

    Raises: ``ValueError`` for an axis of another length.
    """
    x = _tensor_or_array(x, "squeeze")
    if axis is None:
        axis = [i for i, n in enumerate(x.shape) if n == 1]
    axes = axes_of(x, axis)
    if any(x.shape[i] != 1 for i in axes):
        raise errors.squeeze_refused(axis, x)
    return reshape(x, shape=shape_without(x, axes))


def expand_dims(x: Array, axis: Any) -> Array:
    """``x`` with new axes of length 1, whose positions in the result are ``axis``.

    Raises: ``ValueError`` for an axis that the result does not have.
    """
    x = _tensor_or_array(x, "expand_dims")
    axes = axes_of(x, axis, added=len(axis) if isinstance(axis, tuple | list) else 1)
    shape = list(x.shape)
    for i in axes:
        shape.insert(i, 1)
    return reshape(x, shape=tuple(shape))


def broadcast_to(x: Array, shape: int | tuple[int, ...]) -> Array:
    """``x``, repeated along new axes in front and along axes of length 1.

    Raises: ``ValueError`` if ``x`` does not broadcast to ``shape``.
    """
    x, shape = _tensor_or_array(x, "broadcast_to"), one_shape((shape,))
    lead = len(shape) - x.ndim
    if lead < 0 or any(n not in (1, shape[lead + i]) for i, n in enumerate(x.shape)):
        raise errors.broadcast_refused(x, shape)
    return ops.broadcast_to(x, shape=shape)


# --- Joining --------------------------------------------------------------------------


class Concatenate(Operation):
    """The only operation with any number of inputs; backward cuts g into pieces."""

    def forward(self, *inputs, axis):
        return np.concatenate(inputs, axis)

    def apply_pullbacks(self, g, y, needs):
        axis = y.params["axis"]
        ends = itertools.accumulate(x.shape[axis] for x in y.inputs)
        return [
            (x, getitem(g, index=_slice(axis, end - x.shape[axis], end)))
            for x, need, end in zip(y.inputs, needs, ends)
            if need
        ]


def _slice(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


_concatenate = Concatenate(
    "concatenate",
    demands="the inputs must have the same shape except along the axis to be joined.",
)


@overload
def concatenate(tensors: Sequence[np.ndarray], axis: int | None = 0) -> np.ndarray: ...
@overload
def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> "Tensor": ...
def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Any:
    """Join tensors along an existing axis; None flattens them first.

    Raises: ``ValueError`` for no tensors, or shapes that differ elsewhere.
    """
    tensors = _at_least_one("concatenate", tensors)
    if axis is None:
        tensors, axis = [flatten(x) for x in tensors], 0
    return _concatenate(*tensors, axis=one_axis_of(tensors[0], axis))


@overload
def stack(tensors: Sequence[np.ndarray], axis: int = 0) -> np.ndarray: ...
@overload
def stack(tensors: Sequence[Any], axis: int = 0) -> "Tensor": ...
def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Join tensors of one shape along a new axis.

    Raises: ``ValueError`` for no tensors, shapes that differ, or an axis out of range.
    """
    tensors = _at_least_one("stack", tensors)
    shape = tensors[0].shape
    if any(x.shape != shape for x in tensors):
        raise errors.stack_of_shapes(tensors)
    axis = one_axis_of(tensors[0], axis, added=1)
    longer = (*shape[:axis], 1, *shape[axis:])
    return concatenate([reshape(x, shape=longer) for x in tensors], axis)


def _at_least_one(function: str, tensors: Sequence[Any]) -> list[Any]:
    if not (found := [_tensor_or_array(x, function) for x in tensors]):
        raise errors.nothing_to_join(function)
    return found

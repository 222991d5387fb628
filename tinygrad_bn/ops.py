"""The vocabulary: each operation beside its adjoint, and the operators of ``Tensor``.

A pullback is read as ``(g, y, *inputs, **params) -> gradient of one input``. It is
written with operators, the functions of this file, and those of NumPy that pass tensors
on to them (the table at the end), so that it runs on arrays and on tensors alike, and
its derivatives of every order are words of the same vocabulary.

==================  ====================================================================
adjoint pair        two linear operations, each of which is the other's pullback:
                    ``broadcast_to`` and ``sum_to``, ``getitem`` and ``scatter_add``;
                    ``reshape``, ``transpose`` and ``astype`` are their own kind's
elementwise         an operation whose inputs are first brought to one shape, visibly:
                    ``u + b`` is ``add(u, broadcast_to(b))`` if ``b`` needs a gradient
constant            the result of ``equal`` and ``sign``, which have no derivative
==================  ====================================================================

At kinks: ``relu`` has slope 0 at 0, ``absolute`` too; ``maximum`` and ``max`` share the
gradient equally among ties.

This file comes second in the reading order, after ``tensor.py``.

Left out on purpose: convolutions, sorting, linear algebra beyond ``matmul``, views that
alias (an output never shares the memory of a leaf, and is read-only).
"""

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from .tensor import Number, Primitive, Tensor, composite, describe, state

# --- Shapes: each beside its adjoint --------------------------------------------------


def _sum_to(x, shape):
    lead = x.ndim - len(shape)
    stretched = [
        lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1
    ]
    return np.add.reduce(x, axis=(*range(lead), *stretched), keepdims=True).reshape(
        shape
    )


def sum_of_rows(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The sum over the first axis, as a product: BLAS is faster at it."""
    return _constant_row(1, len(x), x.dtype).dot(x, out)


def mean_of_rows(x: np.ndarray) -> np.ndarray:
    """The mean over the first axis of an array of floats, as a product."""
    return _constant_row(1 / len(x), len(x), x.dtype).dot(x)


@functools.lru_cache(maxsize=16)
def _constant_row(value: float, n: int, dtype: np.dtype) -> np.ndarray:
    return np.full(n, value, dtype)


def add_row(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    """``x + row``, written over ``x`` where the result has its dtype."""
    if x.dtype != row.dtype:
        return x + row
    x += row
    return x


def as_floats(x: np.ndarray) -> np.ndarray:
    """``x``, with integers and booleans converted: they would wrap around."""
    return x.astype(float) if x.dtype.kind in "biu" else x


broadcast_to = Primitive(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, y, x, shape: sum_to(g, shape=x.shape),
)
sum_to = Primitive(
    "sum_to",
    _sum_to,
    lambda g, y, x, shape: broadcast_to(g, shape=x.shape),
)

reshape = Primitive(
    "reshape",
    lambda x, shape: x.reshape(shape),
    lambda g, y, x, shape: reshape(g, shape=x.shape),
)

transpose = Primitive(
    "transpose",
    lambda x, axes: x.transpose(axes),
    lambda g, y, x, axes: transpose(g, axes=tuple(int(i) for i in np.argsort(axes))),
)

astype = Primitive(
    "astype",
    lambda x, dtype: x.astype(dtype),
    lambda g, y, x, dtype: astype(g, dtype=x.dtype),
)


def _scatter_add(x, index, shape):
    y = np.zeros(shape, x.dtype)
    if _names_each_place_once(index):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


def _names_each_place_once(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        isinstance(part, int | slice | np.integer | type(None) | type(Ellipsis))
        for part in parts
    )


getitem = Primitive(
    "getitem",
    lambda x, index: x[index],
    lambda g, y, x, index: scatter_add(g, index=index, shape=x.shape),
)
scatter_add = Primitive(
    "scatter_add",
    _scatter_add,
    lambda g, y, x, index, shape: getitem(g, index=index),
)


class _Concatenate(Primitive):
    """The one variadic primitive: it makes the pullback of input ``i``."""

    def differentiates(self, i):
        return True

    def pullback(self, i):
        def slice_of_input(g, y, *inputs, axis):
            start = sum(x.shape[axis] for x in inputs[:i])
            inside = slice(start, start + inputs[i].shape[axis])
            return getitem(g, index=(slice(None),) * axis + (inside,))

        return slice_of_input


_concatenate = _Concatenate(
    "concatenate",
    lambda *inputs, axis: np.concatenate(inputs, axis),
    demands="the inputs must have the same shape except along the axis to be joined.",
)

# --- Elementwise ----------------------------------------------------------------------


class Elementwise(Primitive):
    """A primitive whose inputs are first brought to one shape."""

    def __call__(self, *inputs):
        return super().__call__(*_on_one_shape(self, inputs))


_BROADCASTABLE = (
    "the shapes must agree from the last axis on, or be 1 there; reshape or transpose "
    "one."
)


def _on_one_shape(operation, inputs):
    shapes = {
        x.shape if isinstance(x, Tensor | np.ndarray) else np.shape(x)
        for x in inputs
        if not isinstance(x, Number)
    }
    if len(shapes) < 2:
        return inputs
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise operation.refusal(inputs, ValueError(_BROADCASTABLE)) from error
    if not state.recording:
        return inputs
    return [
        broadcast_to(x, shape=shape)
        if isinstance(x, Tensor) and x.requires_grad and x.shape != shape
        else x
        for x in inputs
    ]


def _equal(a, b):
    return np.equal(a, b).astype(np.result_type(a, b))


equal = Elementwise("equal", _equal, None, None)
sign = Primitive("sign", np.sign, None)

add = Elementwise(
    "add",
    np.add,
    lambda g, y, a, b: g,
    lambda g, y, a, b: g,
)
sub = Elementwise(
    "sub",
    np.subtract,
    lambda g, y, a, b: g,
    lambda g, y, a, b: g * -1,
)
mul = Elementwise(
    "mul",
    np.multiply,
    lambda g, y, a, b: g * b,
    lambda g, y, a, b: g * a,
)
div = Elementwise(
    "div",
    np.true_divide,
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: g * -y / b,
)


def _slope_in_base(g, y, x, n):
    if isinstance(n, Number):
        return g * (n * x ** (n - 1)) if n else g * 0
    # The factor n makes this 0 where n = 0; at x = 0 too, as 0^(-1) is not formed.
    return g * (n * (x + equal(x, 0) * equal(n, 0)) ** (n - 1))


power = Elementwise(
    "power",
    lambda x, n: x**n,
    _slope_in_base,
    # At x = 0 the logarithm is taken of 1, so that the rule is 0 there.
    lambda g, y, x, n: g * (y * log(x + equal(x, 0))),
)
maximum = Elementwise(
    "maximum",
    np.maximum,
    lambda g, y, a, b: g * (equal(a, y) / (equal(a, y) + equal(b, y))),
    lambda g, y, a, b: g * (equal(b, y) / (equal(a, y) + equal(b, y))),
)
where = Elementwise(
    "where",
    np.where,
    None,
    lambda g, y, mask, a, b: where(mask, g, 0),
    lambda g, y, mask, a, b: where(mask, 0, g),
)

# np.sign: of a tensor it is sign (see the table at the end), of an array it is faster.
absolute = Primitive("absolute", np.absolute, lambda g, y, x: g * np.sign(x))
exp = Primitive("exp", np.exp, lambda g, y, x: g * y)
log = Primitive("log", np.log, lambda g, y, x: g / x)
sqrt = Primitive("sqrt", np.sqrt, lambda g, y, x: g / (2 * y))
tanh = Primitive("tanh", np.tanh, lambda g, y, x: g * (1 - y * y))


def _relu(x):
    # NumPy compares two arrays with vector instructions, an array and a number without.
    x = np.asanyarray(x)
    return np.maximum(x, np.zeros(x.shape, int if x.dtype == bool else x.dtype))


relu = Primitive("relu", _relu, lambda g, y, x: g * np.sign(y))


def _sigmoid(x):
    y = np.asanyarray(-as_floats(np.asanyarray(x)))
    # exp overflows to inf only where 1 / (1 + inf) = 0 is the right answer.
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


sigmoid = Primitive("sigmoid", _sigmoid, lambda g, y, x: g * (y - y * y))

# --- Products and reductions ----------------------------------------------------------

_matmul = Primitive(
    "matmul",
    np.matmul,
    lambda g, y, a, b: g @ b.mT,
    lambda g, y, a, b: a.mT @ g,
    demands="the last axis of the first input and the second to last of the second "
    "must be equally long, and the axes before them must broadcast; "
    "transpose or reshape one.",
)


def matmul(a, b):
    """The matrix product over the last two axes, broadcast over those before them.

    Shapes: (..., n, k) @ (..., k, p) -> (..., n, p); a vector stands for a row on the
    left and for a column on the right, as in ``numpy.matmul``.

    Raises: ``ValueError`` for shapes that do not fit.
    """
    a, b = (x if isinstance(x, Tensor | np.ndarray) else np.asarray(x) for x in (a, b))
    if min(a.ndim, b.ndim) == 0 or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise _matmul.refusal((a, b), ValueError())
    rows = reshape(a, shape=(1, *a.shape)) if a.ndim == 1 else a
    columns = reshape(b, shape=(*b.shape, 1)) if b.ndim == 1 else b
    if rows.shape[:-2] != columns.shape[:-2]:
        try:
            batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        except ValueError as error:
            raise _matmul.refusal((a, b), error) from error
        rows, columns = (
            x
            if x.shape[:-2] == batch
            else broadcast_to(x, shape=(*batch, *x.shape[-2:]))
            for x in (rows, columns)
        )
    y = _matmul(rows, columns)
    if a.ndim > 1 and b.ndim > 1:
        return y
    return reshape(
        y, shape=y.shape[:-2] + y.shape[-2:][a.ndim == 1 : 2 - (b.ndim == 1)]
    )


def _share_of_max(g, y, x, shape):
    winners = equal(x, broadcast_to(y, shape=x.shape))
    return broadcast_to(g / sum_to(winners, shape=shape), shape=x.shape) * winners


def _max_to(x, shape):
    axes = tuple(i for i, n in enumerate(shape) if n != x.shape[i])
    return np.maximum.reduce(x, axis=axes, keepdims=True) if axes else x.view()


max_to = Primitive("max_to", _max_to, _share_of_max)


def axes_of(x, axis) -> tuple[int, ...]:
    """The axes meant by NumPy's ``axis``: None (all), one, several, or from the end.

    Raises: ``ValueError`` for an axis that ``x`` does not have, or that comes twice.
    """
    several = not isinstance(axis, tuple) and isinstance(axis, Iterable)
    axes = _axes(x.ndim, tuple(axis) if several else axis)
    if axes is None:
        raise ValueError(
            f"axis must name different axes out of {x.ndim}, but {axis} was received "
            f"for {describe(x)}."
        )
    return axes


@functools.cache
def _axes(ndim: int, axis) -> tuple[int, ...] | None:
    """The axes counted from the start and in order; None if they make no sense."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    found = tuple(sorted(int(i) + ndim if i < 0 else int(i) for i in axes))
    sensible = len(set(found)) == len(found) and all(0 <= i < ndim for i in found)
    return found if sensible else None


def kept(x, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``x`` with ones for ``axes``: that of a sum with ``keepdims``."""
    return _without(x.shape, axes)[0]


def dropped(x, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``x`` without ``axes``: that of a sum over them."""
    return _without(x.shape, axes)[1]


def count(x, axes: tuple[int, ...]) -> int:
    """How many values of ``x`` a sum over ``axes`` adds up."""
    return _without(x.shape, axes)[2]


@functools.lru_cache
def _without(shape: tuple, axes: tuple) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    ones = tuple(1 if i in axes else n for i, n in enumerate(shape))
    rest = tuple(n for i, n in enumerate(shape) if i not in axes)
    return ones, rest, math.prod(shape[i] for i in axes)


def reduce_sum(x, axis=None, keepdims=False):
    """The sum over ``axis`` (None: all)."""
    axes = axes_of(x, axis)
    if keepdims:
        return sum_to(x, shape=kept(x, axes))
    if axes == tuple(range(len(axes))):
        return sum_to(x, shape=dropped(x, axes))
    return reshape(sum_to(x, shape=kept(x, axes)), shape=dropped(x, axes))


def reduce_max(x, axis=None, keepdims=False):
    """The largest value over ``axis`` (None: all); ties share the gradient equally."""
    axes = axes_of(x, axis)
    y = max_to(x, shape=kept(x, axes))
    return y if keepdims else reshape(y, shape=dropped(x, axes))


@composite
def mean(x, axis=None, keepdims=False):
    """The mean over ``axis`` (None: all)."""
    values = count(x, axes_of(x, axis))
    return reduce_sum(x, axis, keepdims) * (1 / values if values else math.nan)


@composite
def var(x, axis=None, keepdims=False):
    """The variance over ``axis`` (None: all): the mean of the squared deviations.

    It divides by the number of values, as ``numpy.var`` does and batch norm needs it.
    """
    return mean((x - mean(x, axis, keepdims=True)) ** 2, axis, keepdims)


# --- Joining --------------------------------------------------------------------------


def concatenate(tensors: Sequence, axis: int = 0):
    """The tensors one after the other along an axis that they have.

    Raises: ``ValueError`` for no tensors, or shapes that differ elsewhere.
    """
    tensors = _at_least_one("concatenate", tensors)
    (axis,) = axes_of(tensors[0], axis)
    return _concatenate(*tensors, axis=axis)


def stack(tensors: Sequence, axis: int = 0):
    """The tensors, all of one shape, one after the other along a new axis.

    Raises: ``ValueError`` for no tensors, or shapes that differ.
    """
    tensors = _at_least_one("stack", tensors)
    shape = tensors[0].shape
    if any(x.shape != shape for x in tensors):
        raise ValueError(
            "stack: all tensors must have one shape. Received: "
            f"{', '.join(describe(x) for x in tensors)}."
        )
    place = axis if axis >= 0 else axis + len(shape) + 1
    longer = (*shape[:place], 1, *shape[place:])
    return concatenate([reshape(x, shape=longer) for x in tensors], place)


def _at_least_one(function: str, tensors: Sequence) -> tuple:
    if not (tensors := tuple(tensors)):
        raise ValueError(
            f"{function}: at least one tensor must be given, received none."
        )
    return tuple(x if isinstance(x, Tensor) else np.asarray(x) for x in tensors)


# --- The operators and methods of Tensor ----------------------------------------------


def _constant_index(index):
    """The index with its arrays copied: what is in a graph must not change."""
    if isinstance(index, tuple):
        return tuple(_constant_index(i) for i in index)
    return np.array(index) if isinstance(index, Tensor | np.ndarray | list) else index


def _unpacked(numbers: tuple) -> tuple:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    single = len(numbers) == 1 and not isinstance(numbers[0], int | np.integer)
    return tuple(numbers[0]) if single else numbers


def _shape_with_blank(x, shape):
    """The shape with its -1, if any, replaced by what is left over."""
    shape = _unpacked(shape)
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known and x.size % known == 0:
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    if math.prod(shape) != x.size or -1 in shape:
        raise ValueError(
            f"reshape: a shape of {x.size} values must be given, with at most one -1 "
            f"for what is left over, but {describe(x)} received {shape}."
        )
    return shape


def _transpose(x, *axes):
    axes = _unpacked(axes) or range(x.ndim)[::-1]
    axes = tuple(i + x.ndim if i < 0 else i for i in axes)
    if sorted(axes) != list(range(x.ndim)):
        raise ValueError(
            f"transpose: each of the {x.ndim} axes must be named once, but "
            f"{describe(x)} received {axes}."
        )
    return transpose(x, axes=axes)


def _matrix_transpose(x):
    return transpose(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


Tensor.__add__ = lambda a, b: add(a, b)
Tensor.__radd__ = lambda a, b: add(b, a)
Tensor.__sub__ = lambda a, b: sub(a, b)
Tensor.__rsub__ = lambda a, b: sub(b, a)
Tensor.__mul__ = lambda a, b: mul(a, b)
Tensor.__rmul__ = lambda a, b: mul(b, a)
Tensor.__truediv__ = lambda a, b: div(a, b)
Tensor.__rtruediv__ = lambda a, b: div(b, a)
Tensor.__pow__ = lambda a, b: power(a, b)
Tensor.__rpow__ = lambda a, b: power(b, a)
Tensor.__matmul__ = lambda a, b: matmul(a, b)
Tensor.__rmatmul__ = lambda a, b: matmul(b, a)
Tensor.__neg__ = lambda a: mul(a, -1)
Tensor.__pos__ = lambda a: a
Tensor.__abs__ = lambda a: absolute(a)
Tensor.__lt__ = lambda a, b: a.data < np.asarray(b)
Tensor.__le__ = lambda a, b: a.data <= np.asarray(b)
Tensor.__gt__ = lambda a, b: a.data > np.asarray(b)
Tensor.__ge__ = lambda a, b: a.data >= np.asarray(b)
Tensor.__getitem__ = lambda x, index: getitem(x, index=_constant_index(index))
Tensor.sum = reduce_sum
Tensor.max = reduce_max
Tensor.mean = mean
Tensor.var = var
Tensor.reshape = lambda x, *shape: reshape(x, shape=_shape_with_blank(x, shape))
Tensor.transpose = _transpose
Tensor.T = property(_transpose)
Tensor.mT = property(_matrix_transpose)
Tensor.astype = lambda x, dtype: astype(x, dtype=np.dtype(dtype))

# --- NumPy on the left ----------------------------------------------------------------

_UFUNCS = {
    np.add: add,
    np.subtract: sub,
    np.multiply: mul,
    np.true_divide: div,
    np.power: power,
    np.negative: lambda x: mul(x, -1),
    np.positive: lambda x: x,
    np.square: lambda x: power(x, 2),
    np.reciprocal: lambda x: div(1, x),
    np.maximum: maximum,
    np.absolute: absolute,
    np.sign: sign,
    np.exp: exp,
    np.log: log,
    np.sqrt: sqrt,
    np.tanh: tanh,
    np.matmul: matmul,
}
# Their results have no derivative to lose.
_QUESTIONS = {
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.isfinite, np.isinf, np.isnan, np.signbit,
    np.logical_and, np.logical_or, np.logical_not,
    np.allclose, np.array_equal, np.isclose, np.shape, np.ndim, np.size,
    np.argmax, np.argmin, np.argsort, np.zeros_like, np.ones_like,
}  # fmt: skip
_METHODS = {
    np.sum: "tensor.sum()", np.mean: "tensor.mean()", np.var: "tensor.var()",
    np.max: "tensor.max()", np.amax: "tensor.max()", np.reshape: "tensor.reshape()",
    np.transpose: "tensor.transpose()", np.concatenate: "tg.concatenate()",
    np.stack: "tg.stack()", np.where: "tg.where()",
}  # fmt: skip


def _values(x):
    """``x`` with arrays in place of tensors, also inside a list or tuple."""
    if isinstance(x, list | tuple):
        return type(x)(_values(i) for i in x)
    return x.data if isinstance(x, Tensor) else x


def _called_by_numpy(function, inputs, params):
    if function in _QUESTIONS:
        return function(*_values(inputs), **{k: _values(v) for k, v in params.items()})
    instead = _METHODS.get(function, "a composition of the functions of tg")
    raise TypeError(
        f"np.{function.__name__} must be given arrays, but received a tensor, whose "
        f"gradient it would lose. Use {instead}, "
        "or np.asarray(tensor) where no gradient is wanted."
    )


def _array_ufunc(tensor, ufunc, method, *inputs, **params):
    if method == "__call__" and ufunc in _UFUNCS and not params:
        return _UFUNCS[ufunc](*inputs)
    if method != "__call__" or "out" in params:
        raise TypeError(
            f"np.{ufunc.__name__}{'' if method == '__call__' else '.' + method} with "
            "out= or as a method must be given arrays only, but received a tensor. "
            "Use the operators and functions of tg, which return new tensors, "
            "or np.asarray(tensor)."
        )
    return _called_by_numpy(ufunc, inputs, params)


Tensor.__array_ufunc__ = _array_ufunc
Tensor.__array_function__ = lambda tensor, function, types, inputs, params: (
    _called_by_numpy(function, inputs, params)
)

"""The primitives: each operation with its pullbacks.

Read a pullback as ``(g, y, *inputs, **params) -> gradient of one input``. It is written
with operators and with the functions of this file (those of ``relu`` and ``transpose``
also use one of NumPy). So it runs on arrays and on tensors alike, and derivatives of
every order are made of primitives again. A pullback may use primitives that are defined
further down, because it looks them up when it runs.

    adjoint pair   two linear operations, each of which is the pullback of the other:
                   ``broadcast_to`` and ``sum_to``, ``getitem`` and ``scatter_add``.
                   The adjoint of a ``reshape`` is a ``reshape`` with other params, and
                   likewise for ``transpose`` and ``astype``
    elementwise    works element by element. An input that needs a gradient is
                   first broadcast to the shape of the result. For example, if ``b``
                   needs a gradient, ``u (4, 3) + b (3,)`` is recorded as
                   ``add(u, broadcast_to(b))``. The pullback of ``broadcast_to`` sums
                   the gradient over the rows; those of ``add`` do not have to

At kinks: ``relu`` and ``absolute`` have slope 0 at 0, and ``clip`` has slope 1 at its
bounds; ``maximum``, ``minimum``, ``max_to`` and ``min_to`` share the gradient equally
among ties.

This file comes after ``backward.py`` in the reading order; ``batchnorm.py`` is next.

``compositions.py`` defines one more operation, ``concatenate``.

Left out on purpose: convolutions, sorting, linear algebra beyond ``matmul``, and views
that a user could write through.
"""

import numpy as np

from . import kernels
from .scopes import this_thread
from .tape import Node, Number, Primitive

# --- Shapes, dtypes and indices: each next to its adjoint -----------------------------


# The sum over the axes along which broadcast_to repeats values. For x (5, 4, 3) and the
# shape (4, 1), lead is 1, stretched is [2], and so the axes are (0, 2).
def _sum_to(x, shape):
    lead = x.ndim - len(shape)
    stretched = [lead + i for i, n in enumerate(shape) if n != x.shape[lead + i]]
    axes = (*range(lead), *stretched)
    return np.add.reduce(x, axis=axes, keepdims=True).reshape(shape)


broadcast_to = Primitive(
    "broadcast_to",
    np.broadcast_to,
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
    # argsort inverts a permutation of axes >= 0; Tensor.transpose ensures that.
    lambda g, y, x, axes: transpose(g, axes=tuple(np.argsort(axes).tolist())),
)

astype = Primitive(
    "astype",
    lambda x, dtype: x.astype(dtype),
    lambda g, y, x, dtype: astype(g, dtype=x.dtype),
)


# Indices of these types select no element twice, so an assignment is enough. An array
# of indices may, and an assignment would keep only the last value; np.add.at adds all.
_WITHOUT_REPEATS = int, slice, np.integer, type(None), type(Ellipsis)


def _scatter_add(x, index, shape):
    y = np.zeros(shape, x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(isinstance(part, _WITHOUT_REPEATS) for part in parts):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


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


# --- Elementwise ----------------------------------------------------------------------


# Not passed as ``demands``: the errors of integer powers would quote it, too.
_BROADCASTABLE = (
    "the shapes, aligned at their last axes, must agree or be 1 on each axis; reshape "
    "or transpose one of them."
)


class Elementwise(Primitive):
    """A primitive that first broadcasts, on the tape, what needs a gradient.

    NumPy stretches the other inputs by itself.
    """

    def prepare(self, inputs):
        inputs = super().prepare(inputs)
        # On a tensor, np.shape would be slow.
        shapes = {
            x.shape if isinstance(x, Node | np.ndarray) else np.shape(x)
            for x in inputs
            if not isinstance(x, Number)
        }
        if len(shapes) < 2:
            return inputs
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise self.refusal(inputs, ValueError(_BROADCASTABLE)) from None
        if not this_thread.is_recording:
            return inputs  # No gradient will flow.
        return tuple(
            broadcast_to(x, shape=shape)
            if isinstance(x, Node) and x._requires_grad and x.shape != shape
            else x
            for x in inputs
        )


def _equal(a, b):
    # Numbers, 1 where equal and 0 elsewhere, because pullbacks multiply by the result.
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
    lambda g, y, a, b: -g,
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
    lambda g, y, a, b: g * -y / b,  # dy/db = -a / b^2 = -y / b
)


def _pullback_to_base(g, y, x, n):
    # Where n = 0, the slope is 0, but at x = 0 the formula would give 0 * 0^(-1) = nan.
    if isinstance(n, Number):
        return (g * (n * x ** (n - 1))) if n else g * 0
    # With arrays, the base is 1 where both x and n are 0.
    base = x + equal(x, 0) * equal(n, 0)
    return g * (n * base ** (n - 1))


power = Elementwise(
    "power",
    lambda x, n: x**n,
    _pullback_to_base,
    # At x = 0, log(0) is replaced by log(1) = 0, so that the slope is 0 for n >= 0.
    lambda g, y, x, n: g * (y * log(x + equal(x, 0))),
)

_TIES_SHARE_THE_GRADIENT = (
    lambda g, y, a, b: g * (equal(a, y) / (equal(a, y) + equal(b, y))),
    lambda g, y, a, b: g * (equal(b, y) / (equal(a, y) + equal(b, y))),
)
maximum = Elementwise(
    "maximum",
    np.maximum,
    *_TIES_SHARE_THE_GRADIENT,
    doc="The larger of ``a`` and ``b``, elementwise; ties share the gradient equally.",
)
minimum = Elementwise(
    "minimum",
    np.minimum,
    *_TIES_SHARE_THE_GRADIENT,
    doc="The smaller of ``a`` and ``b``, elementwise; ties share the gradient equally.",
)
where = Elementwise(
    "where",
    np.where,
    None,
    lambda g, y, mask, a, b: where(mask, g, 0),
    lambda g, y, mask, a, b: where(mask, 0, g),
    doc="``a`` where ``mask`` is true, ``b`` elsewhere; all three broadcast.",
)

clip = Primitive(
    "clip",
    lambda x, low, high: np.clip(x, low, high),
    # The slope is 1 where clip leaves x unchanged.
    lambda g, y, x, low, high: g * equal(x, y),
)
absolute = Primitive(
    "absolute",
    np.absolute,
    lambda g, y, x: g * sign(x),
    doc="``|x|``, elementwise; slope 0 at 0.",
)
exp = Primitive(
    "exp",
    np.exp,
    lambda g, y, x: g * y,
    doc="``e^x``, elementwise.",
)
log = Primitive(
    "log",
    np.log,
    lambda g, y, x: g / x,
    doc="The natural logarithm, elementwise.",
)
sqrt = Primitive(
    "sqrt",
    np.sqrt,
    lambda g, y, x: g / (2 * y),
    doc="The square root, elementwise.",
)
tanh = Primitive(
    "tanh",
    np.tanh,
    lambda g, y, x: g * (1 - y * y),
    doc="The hyperbolic tangent, elementwise.",
)
relu = Primitive(
    "relu",
    kernels.relu,
    # y >= 0, so its sign is 1 where x > 0 and 0 elsewhere. For an array, np.sign is
    # faster than sign; for a tensor, it calls sign (see Tensor.__array_ufunc__).
    lambda g, y, x: g * np.sign(y),
    doc="``max(x, 0)``, elementwise; slope 0 at 0.",
)
sigmoid = Primitive(
    "sigmoid",
    kernels.sigmoid,
    lambda g, y, x: g * (y - y * y),
    doc="``1 / (1 + e^-x)``, elementwise.",
)

stop_gradient = Primitive(
    "stop_gradient",
    lambda x: x.view(),
    None,
    doc="The same values; no gradient flows back. Drawings show the cut.",
)

# --- Products and extremes ------------------------------------------------------------

# compositions.matmul first broadcasts the axes before the last two to equal lengths, so
# that each gradient has the shape of its input.
matmul = Primitive(
    "matmul",
    np.matmul,
    lambda g, y, a, b: g @ b.mT,
    lambda g, y, a, b: a.mT @ g,
    demands="the last axis of the first input and the second-to-last axis of the "
    "second must have the same length, and the axes before them must broadcast; "
    "transpose or reshape one of them.",
)


# The largest or smallest values over some axes. ``shape`` is the shape of the result:
# that of x, with 1 for each of these axes.
def _extreme_to(x, shape, ufunc):
    axes = tuple(i for i, n in enumerate(shape) if n != x.shape[i])
    # Not x itself, because a result is made read-only.
    return ufunc.reduce(x, axis=axes, keepdims=True) if axes else x.view()


def _share_of_extreme(g, y, x, shape):
    winners = equal(x, broadcast_to(y, shape=x.shape))
    return broadcast_to(g / sum_to(winners, shape=shape), shape=x.shape) * winners


max_to = Primitive(
    "max_to",
    lambda x, shape: _extreme_to(x, shape, np.maximum),
    _share_of_extreme,
)
min_to = Primitive(
    "min_to",
    lambda x, shape: _extreme_to(x, shape, np.minimum),
    _share_of_extreme,
)

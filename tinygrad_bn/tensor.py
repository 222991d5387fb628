"""Tensor: a node of the tape with the operators and methods that users know from NumPy.

There is no mathematics here: every operator and method calls a function of ``ops.py``
or ``compositions.py``. This file defines how a tensor is created, changed, read and
copied, and what happens when NumPy's own functions receive one.

This file comes after ``compositions.py`` in the order of imports. Readers can skip it.

Left out on purpose: memory shared with the user's arrays (``data`` is copied), and
in-place operators on parameters and NumPy functions without a counterpart here, which
raise and name what to use instead.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import compositions, errors, ops
from .arguments import contains, private_copy, refuse_masked, refuse_unreal
from .axes import one_axis_of, one_shape, order_of_axes, shape_with_blank_filled
from .backward import backward
from .clock import clock
from .scopes import Scope, name_in, place_in
from .tape import Node

# The other operand of an operator.
Operand = Any


class Tensor(Node):
    """An array that remembers how it was made.

    ``data`` is copied, because the values in a graph must not change unnoticed. NumPy
    chooses the ``dtype`` unless it is given. ``requires_grad`` asks for a gradient;
    ``name`` appears in pictures and errors.

    ``shape``, ``ndim``, ``size`` and ``dtype`` are those of the array. ``op`` is the
    recorded operation that made this tensor, None for a leaf; ``inputs`` and ``params``
    are what it received.

    Raises: ``TypeError`` for data that are not real numbers, for tensors inside
    ``data``, and for an integer or boolean tensor that should require a gradient.
    """

    __slots__ = ()

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ):
        if isinstance(data, Node):
            raise errors.data_is_a_tensor(data)
        if contains(Node, data):
            raise errors.data_contains_tensors()
        refuse_masked(data, "Tensor(data)")
        if dtype is not None:
            refuse_unreal(data, "Tensor(data)")
        array = np.array(data, dtype=dtype)
        if array.dtype.kind not in "biuf":
            raise errors.data_are_not_real("Tensor(data)", data, array.dtype)
        self._fill(array).named(name)
        if requires_grad:
            self.requires_grad = True

    # --- Values -----------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The values.

        An assignment copies into the existing array, so shape and dtype must agree.
        Every graph recorded from the old values then refuses to run backward. To assign
        to elements, write ``t[0] = 1``: an assignment to the array itself,
        ``t.data[0] = 1``, would go unnoticed.
        """
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        refuse_masked(values, "tensor.data = values")
        if not isinstance(values, np.ndarray):
            refuse_unreal(values, "tensor.data = values")
            self._refuse_floats(values)
            values = np.asarray(values, self.dtype)
        if values.shape != self.shape or values.dtype != self.dtype:
            raise errors.data_of_another_kind(self, values)
        self[...] = values

    def __setitem__(self, index: Any, values: Any) -> None:
        if self.op is not None:
            raise errors.not_a_leaf(self)
        if isinstance(values, Tensor) and values.requires_grad:
            raise errors.assigned_gradient_lost(values)
        refuse_masked(values, "tensor[index] = values")
        refuse_unreal(values, "tensor[index] = values")
        self._refuse_floats(values)
        index = private_copy(index)
        if not self._data.flags.writeable:
            # It comes from an operation that was not recorded, and others may share it.
            self._data = self._data.copy()
        # The timestamp changes first, so that an interrupted write does not go
        # unnoticed.
        self.timestamp = clock.tick()
        self._data[index] = values

    def _refuse_floats(self, values: Any) -> None:
        """Raise for floats, which a tensor of integers or booleans would truncate."""
        array = np.asarray(values)
        if array.size and array.dtype.kind == "f" and self.dtype.kind != "f":
            raise errors.floats_truncated(self, array.dtype)

    def numpy(self) -> np.ndarray:
        """The values, not copied; read-only for the output of an operation."""
        return self._data

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self.size != 1:
            raise errors.not_one_element(self)
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self._data.tolist()

    def named(self, name: str | None) -> "Tensor":
        """Name this tensor, and return it."""
        if name is not None and not isinstance(name, str):
            raise errors.name_is_no_string(name)
        self.name = name
        return self

    def detach(self) -> "Tensor":
        """A leaf with a copy of these values and no history."""
        return Tensor(self._data, name=self.name)

    def qualified_name(self, user: Scope | None = None) -> str | None:
        """The name with the path of its module in front, as in ``1.E[x]``.

        A leaf without a name is called by its place in a module, as in ``0.weight``, if
        ``user``, a call that uses it, is inside that module.
        """
        if self.op is None:
            return place_in(user, self) if self.name is None else self.name
        return None if self.name is None else name_in(self.scope, self.name)

    # --- Gradients --------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether backward passes compute a gradient for this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.op is not None:
            raise errors.gradient_of_an_output(self)
        if wanted and self._data.dtype.kind != "f":
            raise errors.gradient_of_integers(self)
        self._requires_grad = bool(wanted)

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient collected by ``backward()``, shaped like the tensor, or None.

        An assignment copies, so that two tensors never share a gradient. The result
        shares its values with the tensor, but not its shape and dtype, so that nobody
        can change those.
        """
        return None if self._grad is None else self._grad.view()

    @grad.setter
    def grad(self, values: Any) -> None:
        if values is not None:
            refuse_masked(values, "tensor.grad = values")
            values = np.array(values).astype(self.dtype, casting="same_kind")
            if values.shape != self.shape:
                raise errors.gradient_misshapen(self, values.shape)
        self._grad = values

    def backward(self, gradient: Any = None) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf that requires one.

        ``gradient`` is the initial cotangent, shaped like this tensor; for a tensor of
        one element, it is optional and defaults to 1.

        Raises: ``ValueError`` for a missing or misshapen ``gradient``; ``RuntimeError``
        if no leaf requires a gradient, or if a leaf has changed since it was used.
        """
        backward(self, gradient)

    def _move_to(self, data: np.ndarray, grad_buffer: np.ndarray) -> None:
        """Store values and gradient in these arrays, slices of an optimizer's buffers.

        The values stay the same, so no graph becomes stale.
        """
        data[...] = self._data
        self._data, self._grad_buffer = data, grad_buffer
        if self._grad is not None:
            grad_buffer[...] = self._grad
            self._grad = grad_buffer

    def _uses_buffer(self, grad_buffer: np.ndarray) -> bool:
        """Whether ``grad_buffer`` is the gradient buffer of this tensor."""
        return self._grad_buffer is grad_buffer

    def __setstate__(self, state: tuple) -> None:
        """Restore a copied or unpickled tensor, which owns its arrays.

        It keeps its timestamp, so that a copy of a stale graph is stale.
        """
        for slot, value in state[1].items():
            setattr(self, slot, value)
        self._data = self._data.copy()
        self._data.setflags(write=self.op is None)
        self._grad = None if self._grad is None else self._grad.copy()
        self._grad_buffer = None
        clock.pass_by(self.timestamp)

    # --- Conversions ------------------------------------------------------------------

    def __repr__(self) -> str:
        values = np.array2string(
            self._data, separator=", ", prefix="Tensor(", threshold=60
        )
        parts = [values, f"shape={self.shape}", f"dtype={self.dtype}"]
        parts += [f"name={self.name!r}"] if self.name is not None else []
        parts += [f"op={self.op.name!r}"] if self.op is not None else []
        parts += ["requires_grad=True"] if self._requires_grad else []
        return f"Tensor({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise errors.truth_of_many(self)
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._data, dtype=dtype, copy=copy)

    # --- Operators --------------------------------------------------------------------

    def __add__(self, other: Operand) -> "Tensor":
        return ops.add(self, other)

    def __radd__(self, other: Operand) -> "Tensor":
        return ops.add(other, self)

    def __sub__(self, other: Operand) -> "Tensor":
        return ops.sub(self, other)

    def __rsub__(self, other: Operand) -> "Tensor":
        return ops.sub(other, self)

    def __mul__(self, other: Operand) -> "Tensor":
        return ops.mul(self, other)

    def __rmul__(self, other: Operand) -> "Tensor":
        return ops.mul(other, self)

    def __truediv__(self, other: Operand) -> "Tensor":
        return ops.div(self, other)

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return ops.div(other, self)

    def __pow__(self, other: Operand) -> "Tensor":
        return ops.power(self, other)

    def __rpow__(self, other: Operand) -> "Tensor":
        return ops.power(other, self)

    def __matmul__(self, other: Operand) -> "Tensor":
        return compositions.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> "Tensor":
        return compositions.matmul(other, self)

    def __neg__(self) -> "Tensor":
        # Unsigned integers wrap around, as in NumPy, but have no -1.
        return ops.sub(0, self) if self.dtype.kind == "u" else ops.mul(self, -1)

    def __pos__(self) -> "Tensor":
        return self

    def __abs__(self) -> "Tensor":
        return ops.absolute(self)

    def __iadd__(self, other: Operand) -> "Tensor":
        return self._unless_trained("+=") + other

    def __isub__(self, other: Operand) -> "Tensor":
        return self._unless_trained("-=") - other

    def __imul__(self, other: Operand) -> "Tensor":
        return self._unless_trained("*=") * other

    def __itruediv__(self, other: Operand) -> "Tensor":
        return self._unless_trained("/=") / other

    def __ipow__(self, other: Operand) -> "Tensor":
        return self._unless_trained("**=") ** other

    def __imatmul__(self, other: Operand) -> "Tensor":
        return self._unless_trained("@=") @ other

    def _unless_trained(self, symbol: str) -> "Tensor":
        """Raise for a parameter, which ``p -= ...`` would silently replace."""
        if self.op is None and self._requires_grad:
            raise errors.in_place(self, symbol)
        return self

    # Comparisons return NumPy's booleans. Tensors stay hashable by identity.

    def __eq__(self, other: object) -> np.ndarray:  # type: ignore[override]
        return self._data == _compared(other)

    def __ne__(self, other: object) -> np.ndarray:  # type: ignore[override]
        return self._data != _compared(other)

    def __lt__(self, other: Operand) -> np.ndarray:
        return self._data < _compared(other)

    def __le__(self, other: Operand) -> np.ndarray:
        return self._data <= _compared(other)

    def __gt__(self, other: Operand) -> np.ndarray:
        return self._data > _compared(other)

    def __ge__(self, other: Operand) -> np.ndarray:
        return self._data >= _compared(other)

    __hash__ = object.__hash__

    # --- Methods ----------------------------------------------------------------------

    def __getitem__(self, index: Any) -> "Tensor":
        return ops.getitem(self, index=index)

    def sum(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The sum over ``axis``: an axis, a tuple of axes, or None for all."""
        return compositions.reduce_sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The mean over ``axis``: an axis, a tuple of axes, or None for all."""
        return compositions.mean(self, axis, keepdims)

    def var(
        self, axis: Any = None, keepdims: bool = False, ddof: float = 0
    ) -> "Tensor":
        """The variance over ``axis``; the divisor is the count minus ``ddof``."""
        return compositions.var(self, axis, keepdims, ddof)

    def std(
        self, axis: Any = None, keepdims: bool = False, ddof: float = 0
    ) -> "Tensor":
        """The root of the variance; 0 with gradient 0 where all values are equal."""
        return compositions.std(self, axis, keepdims, ddof)

    def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The largest value over ``axis``; ties share the gradient equally."""
        return compositions.reduce_max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The smallest value over ``axis``; ties share the gradient equally."""
        return compositions.reduce_min(self, axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """The index of the largest value over ``axis`` (None: in the flat array)."""
        axis = None if axis is None else one_axis_of(self, axis)
        i = np.argmax(self._data, axis, keepdims=True)
        return Tensor(i if keepdims else i.squeeze(axis))

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """The index of the smallest value over ``axis`` (None: in the flat array)."""
        axis = None if axis is None else one_axis_of(self, axis)
        i = np.argmin(self._data, axis, keepdims=True)
        return Tensor(i if keepdims else i.squeeze(axis))

    def exp(self) -> "Tensor":
        """``e^x``, elementwise."""
        return ops.exp(self)

    def log(self) -> "Tensor":
        """The natural logarithm, elementwise."""
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        """The square root, elementwise."""
        return ops.sqrt(self)

    def abs(self) -> "Tensor":
        """``|x|``, elementwise; slope 0 at 0."""
        return ops.absolute(self)

    def clip(self, low: float | None = None, high: float | None = None) -> "Tensor":
        """The values limited to [low, high]; slope 1 inside and at the bounds."""
        return compositions.clip(self, low, high)

    def reshape(self, *shape: Any) -> "Tensor":
        """The same values in another shape, in which one size may be -1."""
        shape = shape_with_blank_filled(self, one_shape(shape))
        return ops.reshape(self, shape=shape)

    def flatten(self, start_axis: int = 0, end_axis: int = -1) -> "Tensor":
        """The tensor with its axes ``start_axis`` to ``end_axis`` merged into one."""
        return compositions.flatten(self, start_axis, end_axis)

    def ravel(self) -> "Tensor":
        """All values along one axis."""
        return compositions.flatten(self)

    def squeeze(self, axis: Any = None) -> "Tensor":
        """The tensor without its axes of length 1: those given, or all."""
        return compositions.squeeze(self, axis)

    def expand_dims(self, axis: Any) -> "Tensor":
        """The tensor with new axes of length 1, numbered as in the result."""
        return compositions.expand_dims(self, axis)

    def transpose(self, *axes: Any) -> "Tensor":
        """The tensor with its axes in the order given, or reversed."""
        return ops.transpose(self, axes=order_of_axes(self, one_shape(axes)))

    @property
    def T(self) -> "Tensor":
        """The tensor with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> "Tensor":
        """The tensor with its last two axes exchanged."""
        last = self.ndim - 1
        return ops.transpose(self, axes=(*range(self.ndim - 2), last, last - 1))

    def astype(self, dtype: Any) -> "Tensor":
        """The values converted to ``dtype``."""
        return ops.astype(self, dtype=np.dtype(dtype))

    # --- NumPy on the left ------------------------------------------------------------

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **params: Any
    ) -> Any:
        if method == "__call__" and ufunc in _PRIMITIVES and not params:
            return _PRIMITIVES[ufunc](*inputs)
        if method != "__call__" or "out" in params:
            raise errors.ufunc_writes(ufunc.__name__, method)
        return _called_by_numpy(ufunc, inputs, params)

    def __array_function__(
        self, function: Any, types: Any, inputs: Any, params: Any
    ) -> Any:
        return _called_by_numpy(function, inputs, params)


def as_tensor(x: Any) -> Tensor:
    """``x`` itself if it is a tensor, otherwise a tensor with a copy of its values."""
    return x if isinstance(x, Tensor) else Tensor(x)


_PRIMITIVES: dict[Any, Callable[..., Any]] = {
    np.add: ops.add,
    np.subtract: ops.sub,
    np.multiply: ops.mul,
    np.true_divide: ops.div,
    np.power: ops.power,
    np.negative: operator.neg,
    np.positive: operator.pos,
    np.square: lambda x: ops.power(x, 2),
    np.reciprocal: lambda x: ops.div(1, x),
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.absolute: ops.absolute,
    np.sign: ops.sign,
    np.exp: ops.exp,
    np.log: ops.log,
    np.sqrt: ops.sqrt,
    np.tanh: ops.tanh,
    np.matmul: compositions.matmul,
}
# These functions have no derivative that could be lost.
_WITHOUT_DERIVATIVE = {
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.isfinite, np.isinf, np.isnan, np.signbit,
    np.logical_and, np.logical_or, np.logical_not,
    np.allclose, np.array_equal, np.isclose, np.shape, np.ndim, np.size,
    np.argmax, np.argmin, np.argsort, np.zeros_like, np.ones_like,
}  # fmt: skip
_REMEDIES = {
    np.sum: "tensor.sum()", np.mean: "tensor.mean()", np.var: "tensor.var()",
    np.std: "tensor.std()", np.max: "tensor.max()", np.amax: "tensor.max()",
    np.min: "tensor.min()", np.amin: "tensor.min()", np.clip: "tensor.clip()",
    np.reshape: "tensor.reshape()", np.ravel: "tensor.ravel()",
    np.transpose: "tensor.transpose()", np.squeeze: "tensor.squeeze()",
    np.expand_dims: "tg.expand_dims()", np.broadcast_to: "tg.broadcast_to()",
    np.concatenate: "tg.concatenate()", np.stack: "tg.stack()", np.where: "tg.where()",
}  # fmt: skip


def _called_by_numpy(function, inputs, params):
    if function in _WITHOUT_DERIVATIVE:
        params = {name: _values(value) for name, value in params.items()}
        return function(*_values(inputs), **params)
    remedy = _REMEDIES.get(function, "a composition of the functions of tg")
    module = getattr(function, "__module__", None) or "numpy"
    name = f"{module}.{function.__name__}".replace("numpy", "np", 1)
    raise errors.unknown_to_numpy(name, remedy)


def _compared(other):
    """The other side of a comparison as an array."""
    refuse_masked(other, "comparison")
    return np.asarray(other)


def _values(x):
    """``x`` with arrays in place of tensors, also inside a list or tuple."""
    if isinstance(x, list | tuple):
        return type(x)(_values(i) for i in x)
    return x.data if isinstance(x, Tensor) else x

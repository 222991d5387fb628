"""The tape: every value remembers the operation that made it.

    node              a value on the tape: an array and how it was made. ``Tensor`` is
                      the node that users see, with operators and methods
    leaf              a node without a recorded operation: created from data, or
                      computed without being recorded
    tape              the graph behind a node; each node keeps the operation, inputs and
                      params that made it. The function ``tape`` lists the nodes
    primitive         an operation with one pullback per input; the pullbacks are
                      written in primitives, too
    cotangent ``g``   dL/dy: the derivative of the final result L with respect to the
                      output ``y`` of an operation
    pullback          the rule ``(g, y, *inputs, **params) -> dL/dx`` for one input x,
                      also known as a vector-Jacobian product (VJP)
    params            what an operation receives besides its inputs, such as ``axes``
    timestamp         the logical time at which an operation ran, or at which a leaf was
                      created or last changed

An operation on arrays returns an array. If at least one input is a node, it returns a
node. If an input requires a gradient or was itself recorded, the new node is recorded:
it keeps its operation and inputs, for gradients and for pictures (unless ``no_grad`` is
active, see ``scopes.py``).

Because operations accept both arrays and nodes, a pullback is written only once: it
runs on arrays in an ordinary backward pass, and on nodes when the gradient itself is to
be differentiated. For example, the pullback of ``a * b`` for ``a`` is ``g * b``. If g
is a node, this product is recorded like any other, because the operators of ``Tensor``
call the primitives of ``ops.py``.

Start reading here; ``backward.py`` comes next.

Left out on purpose: devices, hooks, in-place operations (only the values of a leaf can
be replaced, as an optimizer does), complex numbers, forward mode, and graphs shared
between threads.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import errors
from .arguments import contains, private_copy, refuse_masked
from .clock import clock
from .scopes import Scope, this_thread

if TYPE_CHECKING:  # Annotations name Tensor, but tensor.py imports this file.
    from .tensor import Tensor

Number = int | float


# --- Values ---------------------------------------------------------------------------


class Node:
    """An array, how it was made, and the gradient that was collected for it.

    ``saved`` is what a fused operation keeps for its backward pass (see
    ``backward.py``). ``scope`` is the call, of a layer or a function, in which the node
    was made; errors, explanations and pictures name nodes by it. ``_grad_buffer`` is a
    parameter's slice of the array in which an optimizer keeps all gradients.

    Nodes are hashed by identity: sets and dictionaries distinguish two nodes even if
    their values agree.
    """

    # Grouped by meaning, not sorted.
    __slots__ = (  # noqa: RUF023
        "_data", "_requires_grad", "name", "timestamp",
        "op", "inputs", "params", "saved", "scope",
        "_grad", "_grad_buffer",
    )  # fmt: skip

    _data: np.ndarray
    _requires_grad: bool
    name: str | None
    timestamp: int
    # None for a leaf. With Any, type checkers demand no test for None where a node is
    # known to be recorded.
    op: "Operation | Any"
    inputs: tuple
    params: Any
    saved: Any
    scope: Scope | None
    _grad: np.ndarray | None
    _grad_buffer: np.ndarray | None

    def _fill(
        self, data, requires_grad=False, name=None, op=None, inputs=(), params=None,
        saved=None,
    ):  # fmt: skip
        """Set all fields and return the node.

        Operations call this instead of the constructor, which checks and copies
        ``data``.
        """
        self._data = data
        self._requires_grad = requires_grad
        self.name = name
        self.op = op
        self.inputs = inputs
        self.params = params
        self.saved = saved
        self.scope = this_thread.scopes[-1]
        self._grad = self._grad_buffer = None
        self.timestamp = clock.tick()
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this node."""
        return self.op is None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype


# --- Operations -----------------------------------------------------------------------


# Inputs of these types go on the tape as they are; None stands for an absent input.
# Converting a Python number to an array could change the dtype of the result.
_AS_THEY_ARE = Node, int, float, type(None)


class Operation:
    """The base class of all operations: it calls and records them.

    ``demands`` states what the inputs must satisfy; the error for other inputs quotes
    it. ``doc`` is the docstring of the operation. If ``saves`` is true, ``forward``
    returns a pair: the result, and what the node keeps as ``saved``.
    """

    saves = False
    forward: Callable

    def __init__(self, name: str, demands: str | None = None, doc: str | None = None):
        self.name, self.demands = name, demands
        if doc is not None:
            self.__doc__ = doc

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}>"

    def __deepcopy__(self, memo: Any) -> "Operation":
        """Return the operation itself: code compares operations by identity."""
        return self

    # For type checkers and editors.
    @overload
    def __call__(self, *inputs: "Tensor", **params: Any) -> "Tensor": ...
    @overload
    def __call__(
        self, *inputs: np.ndarray | Number | Sequence, **params: Any
    ) -> np.ndarray: ...
    @overload
    def __call__(self, *inputs: Any, **params: Any) -> "Tensor": ...

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Compute with arrays; with a node among the inputs, return a node."""
        inputs = self.prepare(inputs)
        arrays: list[Any] = []
        node_type: Any = None  # in practice Tensor, which this file cannot import
        needs_grad = False  # an input that has a pullback requires a gradient
        has_history = False  # an input requires a gradient or was recorded
        has_raw_data = False  # an input is a list or an array
        for i, x in enumerate(inputs):
            if isinstance(x, Node):
                node_type = type(x)
                arrays.append(x._data)
                needs_grad = needs_grad or (x._requires_grad and self.differentiates(i))
                has_history = has_history or x._requires_grad or x.op is not None
            elif isinstance(x, _AS_THEY_ARE):
                arrays.append(x)
            else:
                arrays.append(self._as_array(x))
                has_raw_data = True
        if node_type is not None and params:
            # The tape keeps the params, and the caller may change theirs.
            params = {name: private_copy(value) for name, value in params.items()}
        try:
            result = self.forward(*arrays, **params)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise self.refusal(inputs, error) from error
        data, saved = result if self.saves else (result, None)
        if node_type is None:
            return data
        data = self._output(data)
        y = node_type.__new__(node_type)
        if not (has_history and this_thread.is_recording):
            # It keeps ``saved``, where fused_batch_norm finds the batch statistics.
            return y._fill(data, saved=saved)
        if has_raw_data:
            # Raw data goes on the tape as a leaf that holds a private copy.
            inputs = tuple(
                x if isinstance(x, _AS_THEY_ARE) else node_type(x) for x in inputs
            )
        needs_grad = needs_grad and data.dtype.kind == "f"  # not if cast to integers
        return y._fill(
            data, needs_grad, op=self, inputs=inputs, params=params, saved=saved
        )

    def _as_array(self, x: Any) -> np.ndarray:
        if contains(Node, x):
            raise errors.sequence_of_tensors(self)
        refuse_masked(x, self.name)
        try:
            return np.asarray(x)
        except ValueError as error:
            raise self.refusal((x,), error) from error

    def _output(self, data: Any) -> np.ndarray:
        """The result as a read-only array that shares no memory with a writable one."""
        if type(data) is not np.ndarray:
            data = np.asarray(data)
        # The result may be a view of another array, its base. A writable base may
        # belong to a leaf, which can change later, so copy. A read-only one is the
        # output of another operation. Bases of other types are copied, to be safe.
        base = data.base
        if base is not None and (type(base) is not np.ndarray or base.flags.writeable):
            data = data.copy()
        if data.dtype.kind not in "fbiu":  # float, bool, int, unsigned
            raise errors.result_is_not_real(self, data.dtype)
        data.setflags(write=False)
        return data

    def prepare(self, inputs: tuple) -> tuple:
        """The inputs as ``forward`` requires them."""
        return inputs

    def differentiates(self, i: int) -> bool:
        """Whether a gradient flows back to input ``i``."""
        return True

    def apply_pullbacks(
        self, g: Any, y: Node, needs: Sequence[bool]
    ) -> Iterable[tuple[Node, Any]]:
        """Carry the cotangent ``g`` of the output ``y`` back to its inputs.

        ``needs`` says which inputs need a gradient. Returns pairs of an input and a
        contribution to its gradient, which is an array or a node, as ``g`` is.
        """
        raise NotImplementedError(f"{type(self).__name__}.apply_pullbacks is missing.")

    def refusal(self, inputs: Sequence, error: Exception) -> Exception:
        """The error for inputs that do not fit, with their names and shapes."""
        return errors.inputs_refused(self, inputs, error, this_thread.scopes[-1])


class Primitive(Operation):
    """An operation that knows its own pullbacks.

    ``forward(*inputs, **params)`` computes an array from arrays. It may return a view
    of an input, but not the input itself, because the result is made read-only. There
    is one pullback per input. It returns the gradient of that input, in the shape of
    the input. A pullback is None if no gradient flows to that input.

    Source: Griewank & Walther, Evaluating Derivatives, 2nd ed., section 3.2.
    """

    def __init__(
        self,
        name: str,
        forward: Callable,
        *pullbacks: Callable | None,
        demands: str | None = None,
        doc: str | None = None,
    ):
        super().__init__(name, demands, doc)
        self.forward, self.pullbacks = forward, pullbacks

    def prepare(self, inputs: tuple) -> tuple:
        if len(inputs) != len(self.pullbacks):
            raise errors.inputs_without_pullbacks(self, inputs)
        return inputs

    def differentiates(self, i: int) -> bool:
        return self.pullbacks[i] is not None

    def apply_pullbacks(
        self, g: Any, y: Node, needs: Sequence[bool]
    ) -> Iterable[tuple[Node, Any]]:
        on_nodes = isinstance(g, Node)
        output = y if on_nodes else y._data
        inputs = y.inputs if on_nodes else values_of(y.inputs)
        return [
            (x, pullback(g, output, *inputs, **y.params))
            for x, need, pullback in zip(y.inputs, needs, self.pullbacks)
            if need and pullback is not None
        ]


def values_of(inputs: Iterable) -> list:
    """The inputs with arrays in place of nodes."""
    return [x._data if isinstance(x, Node) else x for x in inputs]


# --- The tape -------------------------------------------------------------------------


def tape(
    y: Node, boundary: Collection[Node] = frozenset(), through_cuts: bool = False
) -> list[Node]:
    """``y`` and the recorded nodes that it was computed from, newest first.

    Each has ``.op``, ``.inputs`` and ``.params``; leaves are left out. The search
    follows the inputs that require a gradient and stops at the ``boundary``, as at
    leaves. With ``through_cuts``, for drawings, it also follows those that require
    none, such as the output of ``stop_gradient``.

    Raises: ``TypeError`` for a ``y`` that is not a tensor.
    """
    if not isinstance(y, Node):
        raise errors.tape_of_no_tensor(y)
    if y.op is None or y in boundary:
        return []
    nodes, found, waiting = [], {y, *boundary}, [y]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        for x in node.inputs:
            if not isinstance(x, Node) or x.op is None or x in found:
                continue
            if x._requires_grad or through_cuts:
                found.add(x)
                waiting.append(x)
    nodes.sort(key=operator.attrgetter("timestamp"), reverse=True)
    return nodes

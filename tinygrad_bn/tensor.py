"""The engine: a tensor remembers how it was made, and gradients flow back along that.

==================  ====================================================================
tape                the graph behind a tensor, as plain data: operation, inputs, params
leaf                a tensor that no operation made
primitive           an operation with one pullback per input, written in primitives
pullback            the rule ``(g, y, *inputs, **params) -> gradient of one input``
cotangent ``g``     the gradient that arrives at an operation's output ``y``
composite           a function of tensors whose operations are remembered under its name
fused               a forward and backward by hand, with the composite that defines them
home                the part of an optimizer's buffer where a leaf's gradient is kept
moment              when an operation ran or a leaf last changed, on one clock for both
==================  ====================================================================

Rules are written once and run in two algebras: called with arrays, an operation returns
an array; called with a tensor, it returns a tensor. A backward pass that moves arrays
is fast; one that moves tensors is recorded like any other computation, so its result
can be differentiated again.

This file comes first in the reading order. It contains no mathematics: the primitives
are in ``ops.py``, which also gives ``Tensor`` its operators.

Left out on purpose: devices, hooks, in-place operations, complex numbers, forward mode,
and graphs shared between threads.
"""

import functools
import itertools
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush

import numpy as np

Number = int | float
tick = itertools.count(1).__next__


class _State(threading.local):
    """Whether this thread records, and the scopes that it is in, innermost last."""

    def __init__(self):
        self.recording, self.scopes = True, [None]


state = _State()

# A training step takes the same few megabytes again and again. The C library of Linux
# gives them back to the system after each step, and has them mapped anew, until it has
# seen a larger block freed (mallopt(3), M_MMAP_THRESHOLD): let it see one.
np.empty(2**25 - 2**16, np.uint8)


class Tensor:
    """An array that remembers how it was made.

    ``data`` is copied (what is in a graph must not change behind its back), ``dtype``
    is NumPy's own choice unless given. ``requires_grad`` asks for a gradient, ``name``
    is what pictures and errors call the tensor.

    Raises: ``TypeError`` for data that are not real numbers, for tensors inside
    ``data``, and where an integer or boolean tensor is asked for a gradient.
    """

    # In the order of a tensor's life: its values, how it was made, its gradient.
    __slots__ = (  # noqa: RUF023
        "_data", "_requires_grad", "name", "moment",
        "op", "inputs", "params", "saved", "scope",
        "grad", "_grad_home",
    )  # fmt: skip

    def __init__(self, data, requires_grad=False, name: str | None = None, dtype=None):
        if isinstance(data, Tensor):
            raise TypeError(
                f"Tensor(data): data must be numbers, but {describe(data)} is a tensor "
                "already. Use it as it is, or data.detach() for one without history."
            )
        if _contains_tensors(data):
            raise TypeError(
                "Tensor(data): data must be numbers, but this sequence contains "
                "tensors. Use tg.stack(tensors), which keeps their gradients."
            )
        array = np.array(data, dtype=dtype)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                "Tensor(data): data must be real numbers, but NumPy reads "
                f"{data!r:.60} as dtype {array.dtype}."
            )
        _fill(self, array, name=name)
        if requires_grad:
            self.requires_grad = True

    @property
    def data(self) -> np.ndarray:
        """The values.

        Assigning copies into the array that is there, whose shape and dtype must agree,
        and makes every graph recorded from the old values refuse to run backward.
        Writing to elements of the array itself (``t.data[0] = 1``) cannot be seen:
        use ``t[0] = 1``.
        """
        return self._data

    @data.setter
    def data(self, values) -> None:
        values = (
            values if isinstance(values, np.ndarray) else np.asarray(values, self.dtype)
        )
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(
                "tensor.data = values: shape and dtype must agree, but "
                f"{describe(self)} is {self.dtype} and the values are {values.shape} "
                f"{values.dtype}. Make a new Tensor instead."
            )
        self[...] = values

    def __setitem__(self, index, values) -> None:
        if not self.is_leaf:
            made_by = repr(self.op.name) if self.op else "an operation"
            raise TypeError(
                f"only leaves can be assigned to, but {describe(self)} is the output "
                f"of {made_by}. Compute a new tensor, or change a leaf and run the "
                "forward pass again."
            )
        if isinstance(values, Tensor) and values.requires_grad:
            raise TypeError(
                "tensor[index] = values: values must be numbers, but "
                f"{describe(values)} has a gradient to lose. Use tg.stack or "
                "tg.concatenate, or values.data."
            )
        self._data[index] = values
        self.moment = tick()

    @property
    def requires_grad(self) -> bool:
        """Whether backward passes compute a gradient for this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.op is not None:
            raise TypeError(
                f"requires_grad can be set on leaves only, but {describe(self)} is the "
                f"output of {self.op.name!r}. "
                "Use .detach() or tg.stop_gradient() to stop gradients."
            )
        if wanted and self._data.dtype.kind != "f":
            raise TypeError(
                "only floating-point tensors can require a gradient, but "
                f"{describe(self)} is {self.dtype}. "
                "Pass dtype=float, or leave requires_grad off."
            )
        self._requires_grad = bool(wanted)

    @property
    def is_leaf(self) -> bool:
        """Whether no operation made this tensor, recorded or not."""
        return self.op is None and self._data.flags.writeable

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

    def numpy(self) -> np.ndarray:
        """The values, not copied; read-only for the output of an operation."""
        return self._data

    def item(self) -> Number:
        """The value of a tensor of one element, as a Python number."""
        if self.size != 1:
            raise ValueError(
                f"a single value must be asked of a tensor of one element, but "
                f"{describe(self)} has {self.size}. Index it or reduce it first."
            )
        return self._data.item()

    def named(self, name: str) -> "Tensor":
        """This tensor, called ``name`` from now on."""
        self.name = name
        return self

    def detach(self) -> "Tensor":
        """A leaf with a copy of these values and no history."""
        return Tensor(self._data, name=self.name)

    def backward(self, gradient=None) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf that requires one.

        ``gradient``: the cotangent to start from, shaped like this tensor; 1 if it is
        left out, which a tensor of one element allows.

        Raises: ``ValueError`` for a missing or misshapen ``gradient``, ``RuntimeError``
        if no leaf can receive anything or a leaf changed since the graph was recorded.
        """
        if not self._requires_grad:
            raise RuntimeError(
                "backward() must start from a tensor that depends on a leaf with "
                f"requires_grad=True, but {describe(self)} does not. Was it computed "
                "under no_grad(), detached, or made of data only?"
            )
        lent = []
        try:
            cotangents = pull_back(self, seed(self, gradient), lent=lent)
        finally:
            # Also after an error: no leaf may lose its home.
            for leaf, home in lent:
                leaf._grad_home = home
        for leaf, g in cotangents.items():
            leaf._add_to_grad(g)

    def _add_to_grad(self, g: np.ndarray) -> None:
        home = self._grad_home
        if self.grad is not None:
            if np.shape(self.grad) != self.shape:
                raise ValueError(
                    "backward(): a gradient must have the shape of its tensor, but "
                    f".grad of {describe(self)} has {np.shape(self.grad)}. "
                    "Set .grad to None."
                )
            self.grad += g
        elif home is None:
            self.grad = np.array(g, dtype=self.dtype)
        else:
            if g is not home:
                home[...] = g
            self.grad = home

    def __setstate__(self, state: tuple) -> None:
        """Be a copy, deep or unpickled: with an own array, on this process's clock."""
        for slot, value in state[1].items():
            setattr(self, slot, value)
        self._data = self._data.copy()
        self._data.setflags(write=self.op is None)
        self.grad = None if self.grad is None else np.array(self.grad)
        self._grad_home, self.moment = None, tick()

    def move_to(self, data: np.ndarray, grad: np.ndarray) -> None:
        """Live in these two arrays from now on: views of an optimizer's flat buffers.

        The values are the same, so no graph becomes stale.
        """
        data[...] = self._data
        self._data, self._grad_home = data, grad
        if self.grad is not None:
            grad[...] = self.grad
            self.grad = grad

    def lives_in(self, grad: np.ndarray) -> bool:
        """Whether ``grad`` is where the gradient of this tensor was last moved to."""
        return self._grad_home is grad

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

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor is defined for one element only, but "
                f"{describe(self)} has {self.size}. Use .data.any() or .data.all()."
            )
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._data, dtype=dtype, copy=copy)


class Scope:
    """One call of a composite or of a module: the operations inside it remember it.

    ``name`` is the function's name or the module's qualified one, ``owner`` the module
    (None for a composite), ``parent`` the scope around it.
    """

    __slots__ = ("name", "owner", "parent")

    def __init__(self, name: str, owner, parent: "Scope | None"):
        self.name, self.owner, self.parent = name, owner, parent


def composite(function: Callable) -> Callable:
    """Decorate a function so that its operations are remembered under its name."""
    name = function.__name__

    @functools.wraps(function)
    def remembered(*inputs, **params):
        scopes = state.scopes
        scopes.append(Scope(name, None, scopes[-1]))
        try:
            return function(*inputs, **params)
        finally:
            scopes.pop()

    return remembered


@contextmanager
def _recording(wanted: bool):
    before, state.recording = state.recording, wanted
    try:
        yield
    finally:
        state.recording = before


def no_grad():
    """Record nothing inside: a context manager, and a decorator for functions."""
    return _recording(False)


def recorded(function: Callable) -> Callable:
    """Decorate a function so that it records even when it is called under
    ``no_grad``."""
    return _recording(True)(function)


class Operation:
    """What primitives and fused operations share: being called, and being recorded.

    ``demands`` says what must hold of the inputs; the error for other inputs quotes it.
    """

    saves = False

    def __init__(self, name: str, demands: str | None = None):
        self.name, self.demands = name, demands

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}>"

    def __deepcopy__(self, memo) -> "Operation":
        return self

    def __call__(self, *inputs, **params):
        arrays, foreign = [], False
        any_tensor = on_tape = needs_grad = False
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor):
                any_tensor = True
                arrays.append(x._data)
                if x._requires_grad:
                    on_tape = True
                    needs_grad = needs_grad or self.differentiates(i)
                elif x.op is not None:
                    on_tape = True
            elif isinstance(x, _KEPT):
                arrays.append(x)
            else:
                # What may change later is copied before it goes on the tape.
                foreign = True
                arrays.append(self._as_array(x))
        try:
            result = self.forward(*arrays, **params)
        except (ValueError, TypeError, IndexError) as error:
            raise self.refusal(inputs, error) from error
        data, saved = result if self.saves else (result, None)
        if not any_tensor:
            return data
        if type(data) is not np.ndarray or data.base is not None:
            data = _array_of_no_leaf(data)
        if data.dtype.kind != "f":
            needs_grad = False
            if data.dtype.kind not in "biu":
                raise TypeError(
                    f"{self.name}: the result must be real numbers, but it is "
                    f"{data.dtype}."
                )
        data.setflags(False)  # write=False; by name it would take twice as long
        y = Tensor.__new__(Tensor)
        if on_tape and state.recording:
            if foreign:
                inputs = tuple(x if isinstance(x, _KEPT) else Tensor(x) for x in inputs)
            return _fill(y, data, needs_grad, None, self, inputs, params, saved)
        return _fill(y, data, saved=saved)

    def _as_array(self, x) -> np.ndarray:
        if _contains_tensors(x):
            raise TypeError(
                f"{self.name}: inputs must be tensors, arrays or numbers, but a "
                "sequence of tensors was received. Use tg.stack(tensors), which keeps "
                "gradients."
            )
        if isinstance(x, np.ndarray):
            return x
        try:
            return np.asarray(x)
        except ValueError as error:
            raise self.refusal((x,), error) from error

    def pull(self, g, y: Tensor, arrays, needs, out) -> Iterable[tuple]:
        """Hand the cotangent ``g`` of the output ``y`` on to the inputs of ``y``.

        Each input has an entry in ``arrays``, its value; in ``needs``, whether it needs
        a gradient; in ``out``, an array that its gradient may be written into, or None.
        Returns pairs: an input that needs a gradient, and its gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pull().")

    def refusal(self, inputs: Sequence, error: Exception) -> Exception:
        """The error for inputs that do not fit, with their names and shapes."""
        kind = next(
            k for k in (IndexError, TypeError, ValueError) if isinstance(error, k)
        )
        demands = self.demands if kind is ValueError else None
        demands = demands or f"{str(error).rstrip('.')}."
        received = ", ".join(describe(x) for x in inputs)
        return kind(f"{self.name}: {demands} Received: {received}.")


class Primitive(Operation):
    """An operation that knows its own adjoint.

    ``forward(*inputs, **params)`` computes an array from arrays and never returns an
    input itself but a view of it. There is one pullback per input, which returns the
    gradient of that input, shaped like it; None stands for an input without derivative.

    Source: the vector-Jacobian products of Griewank & Walther, Evaluating Derivatives,
    2nd ed., section 3.2.
    """

    def __init__(self, name, forward, *pullbacks, demands=None):
        super().__init__(name, demands)
        self.forward, self.pullbacks = forward, pullbacks

    def differentiates(self, i: int) -> bool:
        return self.pullbacks[i] is not None

    def pullback(self, i: int) -> Callable | None:
        """The rule for the gradient of input ``i``."""
        return self.pullbacks[i]

    def pull(self, g, y: Tensor, arrays, needs, out) -> Iterable[tuple]:
        result, inputs = (y, y.inputs) if isinstance(g, Tensor) else (y._data, arrays)
        return [
            (x, rule(g, result, *inputs, **y.params))
            for i, x in enumerate(y.inputs)
            if needs[i] and (rule := self.pullback(i))
        ]


class Fused(Operation):
    """A composition that somebody worked out by hand, beside its ``definition``.

    ``forward(*inputs, **params) -> (y, saved)`` and
    ``backward(g, saved, needs, out, *inputs, **params) -> gradients`` move arrays:
    ``needs`` tells which inputs need a gradient, ``out`` has for some an array of the
    dtype of ``g`` that may take it, and nothing else (else None), ``gradients`` is a
    tuple with an entry per input (ignored where it is not needed). Neither writes into
    ``g`` or, backward, into what was saved.
    ``definition(*inputs, **params)`` computes the same of tensors; derivatives of
    higher order are left to it.
    """

    saves = True

    def __init__(self, name, forward, backward, definition, demands=None):
        super().__init__(name, demands)
        self.forward, self.backward, self.definition = forward, backward, definition

    def differentiates(self, i: int) -> bool:
        return True

    def pull(self, g, y: Tensor, arrays, needs, out) -> Iterable[tuple]:
        if isinstance(g, Tensor):
            start, wanted = tick(), set(itertools.compress(y.inputs, needs))
            return pull_back(self.unfold(y), g, wanted, start).items()
        gradients = tuple(self.backward(g, y.saved, needs, out, *arrays, **y.params))
        if len(gradients) != len(needs):
            raise ValueError(
                f"{self.name}: backward must return one gradient per input, but for "
                f"{len(needs)} inputs it returned {len(gradients)}. "
                "Return None where none is needed."
            )
        return itertools.compress(zip(y.inputs, gradients), needs)

    @recorded
    def unfold(self, y: Tensor) -> Tensor:
        """The output ``y`` of this operation once more, made by the definition."""
        state.scopes.append(y.scope)
        try:
            return self.definition(*y.inputs, **y.params)
        finally:
            state.scopes.pop()


stop_gradient = Primitive("stop_gradient", lambda x: x.view(), None)
stop_gradient.__doc__ = (
    "The same values, through which no gradient flows: a visible cut."
)


def grad(y: Tensor, wrt, gradient=None, create_graph=False):
    """The gradient of ``y`` with respect to ``wrt``, a tensor or a sequence of tensors.

    Returns a tensor for a tensor, a list for a sequence; zeros for what ``y`` does not
    depend on. Mutates nothing. ``gradient`` is the cotangent to start from, shaped like
    ``y``; 1 if left out, which a ``y`` of one element allows. With ``create_graph`` the
    result is recorded: it can be differentiated, explained and drawn.

    Raises: ``ValueError`` for a missing or misshapen ``gradient`` and for a ``wrt``
    that does not require a gradient, ``RuntimeError`` if a leaf changed since its use.
    """
    if not isinstance(y, Tensor) or wrt is None:
        raise TypeError(
            "grad(y, wrt): y must be a tensor and wrt one or several, but "
            f"{describe(y):.60} and {describe(wrt):.60} were received."
        )
    single = isinstance(wrt, Tensor)
    wanted = [wrt] if single else list(wrt)
    for x in wanted:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"grad(y, wrt): wrt must be tensors, but it contains {x!r:.60}."
            )
        if not x._requires_grad:
            raise ValueError(
                "grad(y, wrt): wrt must require a gradient, otherwise nobody recorded "
                f"how y depends on it, but {describe(x)} ({x.dtype}) does not. Make it "
                "with Tensor(..., requires_grad=True)."
            )
    g = seed(y, gradient)
    if create_graph:
        g = gradient if isinstance(gradient, Tensor) else Tensor(g)
        cotangents = recorded(pull_back)(y, g, set(wanted))
    else:
        cotangents = pull_back(y, g, set(wanted))
    gradients = [_as_gradient_of(x, cotangents.get(x)) for x in wanted]
    return gradients[0] if single else gradients


def pull_back(
    y: Tensor, g, wanted: set | None = None, since: int = 0, lent: list | None = None
) -> dict:
    """Carry the cotangent ``g`` of ``y`` back: ``{tensor: its cotangent}``.

    ``wanted`` are the tensors to arrive at, by default all leaves; only what leads to
    them is computed. The walk stops at operations that are not younger than ``since``.
    With ``lent``, a list, a rule may write the gradient of a leaf straight into its
    home. The home is taken from the leaf and noted in ``lent``, so that nobody else
    (another use, a walk inside a rule) writes there; the caller gives it back.
    """
    needed = None if wanted is None else _on_the_way(y, wanted, since)
    keep = wanted or ()
    cotangents, waiting = {}, []
    if needed is None or y in needed:
        cotangents[y] = g
        if y.op is not None and y.moment > since:
            waiting.append((-y.moment, y))
    # An operation is younger than its inputs, so the youngest that waits is complete:
    # whatever could still add to its cotangent would be younger. heapq hands out the
    # smallest, hence the minus. No two operations are of one moment.
    while waiting:
        _, node = heappop(waiting)
        g = cotangents[node] if node in keep else cotangents.pop(node)
        # What pull() is given; written out, as a call per operation would be felt.
        arrays, needs, out = [], [], []
        for x in node.inputs:
            need, home = False, None
            if isinstance(x, Tensor):
                need = x._requires_grad if needed is None else x in needed
                if x.op is None:
                    if x.moment > node.moment:
                        refuse_changed_leaves(node)
                    at_home = lent is not None and x._grad_home is not None
                    if at_home and need and x.grad is None and x._data.dtype == g.dtype:
                        home, x._grad_home = x._grad_home, None
                        lent.append((x, home))
                x = x._data
            arrays.append(x)
            needs.append(need)
            out.append(home)
        for x, d_x in node.op.pull(g, node, arrays, needs, out):
            if getattr(d_x, "shape", None) != x._data.shape:
                raise ValueError(
                    f"{node.op.name}: the gradient of an input must have its shape, "
                    f"but the rule for {describe(x)} returned "
                    f"{getattr(d_x, 'shape', repr(d_x))}. Mend the pullback."
                )
            if x in cotangents:
                d_x = cotangents[x] + d_x
            elif x.op is not None and x.moment > since:
                heappush(waiting, (-x.moment, x))
            cotangents[x] = d_x
    return cotangents


def _on_the_way(y: Tensor, wanted: set, since: int) -> set:
    """The tensors through which gradients of ``y`` reach those that are ``wanted``."""
    operations, found = tape(y, since)
    needed = found & wanted
    for node in reversed(operations):
        if node not in needed and not needed.isdisjoint(node.inputs):
            needed.add(node)
    return needed


def tape(y: Tensor, since: int = 0, cuts=False) -> tuple[list[Tensor], set[Tensor]]:
    """What gradients of ``y`` pass: the operations, youngest first, and all tensors.

    With ``cuts``, also what they would pass if nothing had stopped them.
    """
    operations, found, waiting = [], {y}, [y]
    while waiting:
        node = waiting.pop()
        if node.op is None or node.moment <= since:
            continue
        operations.append(node)
        for x in node.inputs:
            if not isinstance(x, Tensor) or x in found:
                continue
            if x._requires_grad or cuts and x.op is not None:
                found.add(x)
                if x.op is not None:
                    waiting.append(x)
    # An operation is younger than its inputs: the order of birth is topological.
    operations.sort(key=operator.attrgetter("moment"), reverse=True)
    return operations, found


def refuse_changed_leaves(node: Tensor) -> None:
    """Raise if a leaf has changed since ``node`` was made of it."""
    for x in node.inputs:
        if isinstance(x, Tensor) and x.op is None and x.moment > node.moment:
            raise RuntimeError(
                "a graph runs backward only with the values it was recorded with, but "
                f"{describe(x)} was changed after {node.op.name!r} had used it. Run "
                "the forward pass again after changing a leaf "
                "(an optimizer's step() changes its parameters)."
            )


def describe(x) -> str:
    """What an error calls an input: its name, if it has one, and its shape."""
    if isinstance(x, Tensor):
        name = qualified_name(x)
        return f"tensor{x.shape}" if name is None else f"{name!r}{x.shape}"
    return f"array{x.shape}" if isinstance(x, np.ndarray) else f"{x!r:.60}"


def qualified_name(x: Tensor) -> str | None:
    """The name of ``x``, and before it the module that made it, as in ``1.E[x]``."""
    if x.name is None or x.op is None:
        return x.name
    scope = x.scope
    while scope is not None and (scope.owner is None or not scope.name):
        scope = scope.parent
    return x.name if scope is None else f"{scope.name}.{x.name}"


def _fill(
    tensor,
    data,
    requires_grad=False,
    name=None,
    op=None,
    inputs=(),
    params=None,
    saved=None,
):
    tensor._data = data
    tensor._requires_grad = requires_grad
    tensor.grad = tensor._grad_home = None
    tensor.name = name
    tensor.op = op
    tensor.inputs = inputs
    tensor.params = params
    tensor.saved = saved
    tensor.scope = state.scopes[-1]
    tensor.moment = tick()
    return tensor


def _array_of_no_leaf(data) -> np.ndarray:
    """``data`` as an array; a copy, if it is a view of a leaf, which may change."""
    array = np.asarray(data)
    owner = array.base
    return array.copy() if owner is not None and owner.flags.writeable else array


def _contains_tensors(data) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(x, Tensor) or _contains_tensors(x) for x in data
    )


def seed(y: Tensor, gradient) -> np.ndarray:
    """The cotangent with which a backward pass from ``y`` starts."""
    if gradient is None:
        if y.size != 1:
            raise ValueError(
                f"a gradient starts from one number, but {describe(y)} has {y.size}. "
                "Reduce it first, for example with .sum() or .mean(), or pass "
                f"gradient=, an array of shape {y.shape}."
            )
        return np.array(1, y.dtype).reshape(y.shape)
    g = np.array(gradient, dtype=y.dtype)
    if g.shape != y.shape:
        raise ValueError(
            "gradient must have the shape of the tensor it arrives at, but "
            f"{describe(y)} got one of shape {g.shape}."
        )
    return g


def _as_gradient_of(x: Tensor, g) -> Tensor:
    if g is None:
        return Tensor(np.zeros(x.shape, x.dtype))
    if isinstance(g, Tensor):
        return g if g.dtype == x.dtype else g.astype(x.dtype)
    return Tensor(g, dtype=x.dtype)


# These stay as they are among ``inputs``: an array would change the dtype of results.
_KEPT = (Tensor, int, float, type(None))

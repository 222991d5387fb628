"""The backward pass: one loop over the tape, from the newest operation to the oldest.

An operation runs after the operations that made its inputs, so its output has a later
timestamp than theirs. Sorting the tape by timestamp therefore gives a topological
order: when the loop reaches a node, everything that was computed from that node has
already added its contribution to the cotangent. (Only a leaf may be newer than what was
computed from it: an optimizer, for example, may have changed its values since. Then
``refuse_changed_leaves`` raises.)

    backward pass   carries the cotangent of an output back to leaves, or to other nodes
                    that were asked for
    composite       a function whose operations are recorded under its name (scopes.py)
    fused           a hand-written forward and backward, paired with its ``definition``,
                    a composite that computes the same result
    boundary        nodes at which the search through the tape stops, as if they were
                    leaves

This file comes after ``tape.py`` in the reading order, and before ``ops.py``.

Left out on purpose: recomputing values to save memory, and gradients of several outputs
in one pass.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import errors
from .arguments import refuse_masked
from .scopes import recording, this_thread
from .tape import Node, Operation, tape, values_of

if TYPE_CHECKING:  # Annotations name Tensor, but tensor.py imports this file.
    from .tensor import Tensor


def backward_pass(
    y: Node,
    initial: Any,
    wanted: Collection[Node] | None = None,
    boundary: Collection[Node] = frozenset(),
) -> dict[Node, Any]:
    """Carry the ``initial`` cotangent of ``y`` back, and return ``{node: cotangent}``.

    The dictionary contains the ``wanted`` nodes that ``y`` depends on; by default,
    every leaf that requires a gradient is wanted. Cotangents that do not lead to a
    wanted node are not computed.
    """
    nodes = tape(y, boundary)
    relevant = None if wanted is None else _dependents_of(wanted, nodes)
    cotangents = {y: initial}
    for node in nodes:
        if node not in cotangents:
            continue  # Nothing arrived: not relevant, or a pullback is missing.
        g = cotangents[node]
        refuse_changed_leaves(node)
        needs = [
            isinstance(x, Node)
            and (x._requires_grad if relevant is None else x in relevant)
            for x in node.inputs
        ]
        for x, d_x in node.op.apply_pullbacks(g, node, needs):
            if getattr(d_x, "shape", None) != x._data.shape:
                raise errors.pullback_misshapen(node, x, d_x)
            # Not +=, because pullbacks share arrays: those of add return g itself.
            cotangents[x] = cotangents[x] + d_x if x in cotangents else d_x
        if wanted is None or node not in wanted:
            del cotangents[node]  # Only leaves and wanted nodes keep theirs.
    return cotangents


def _dependents_of(wanted: Collection[Node], nodes: list[Node]) -> set[Node]:
    """The wanted nodes, and those among ``nodes`` that depend on one of them."""
    found = set(wanted)
    for node in reversed(nodes):  # oldest first
        if not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def refuse_changed_leaves(node: Node) -> None:
    """Raise if a leaf has changed since ``node`` was computed from it."""
    for x in node.inputs:
        if isinstance(x, Node) and x.op is None and x.timestamp > node.timestamp:
            raise errors.leaf_changed(x, node)


def initial_cotangent(y: Node, gradient: Any) -> np.ndarray:
    """The initial cotangent; by default 1, for a ``y`` of one element."""
    if gradient is None:
        if y.size != 1:
            raise errors.cotangent_missing(y)
        return np.ones(y.shape, y.dtype)
    refuse_masked(gradient, "gradient")
    # A copy: ``gradient`` may be the .grad of a leaf, which ``backward`` changes.
    g = np.asarray(gradient).astype(y.dtype, casting="same_kind")
    if g.shape != y.shape:
        raise errors.cotangent_misshapen(y, g.shape)
    return g


def backward(y: Node, gradient: Any = None) -> None:
    """Add the gradient of ``y`` to ``.grad`` of every leaf that requires one."""
    if not y._requires_grad:
        raise errors.nothing_recorded(y)
    for leaf, g in backward_pass(y, initial_cotangent(y, gradient)).items():
        if leaf._grad is not None:
            leaf._grad += g
        elif leaf._grad_buffer is None:
            leaf._grad = np.array(g, dtype=leaf.dtype)
        else:
            leaf._grad_buffer[...] = g
            leaf._grad = leaf._grad_buffer


@overload
def grad(
    y: Node, wrt: "Tensor", gradient: Any = None, create_graph: bool = False
) -> "Tensor": ...
@overload
def grad(
    y: Node, wrt: Sequence["Tensor"], gradient: Any = None, create_graph: bool = False
) -> list["Tensor"]: ...
def grad(y: Any, wrt: Any, gradient: Any = None, create_graph: bool = False) -> Any:
    """The gradient of ``y`` with respect to ``wrt``, a tensor or a sequence of tensors.

    Returns a tensor for a tensor and a list for a sequence, with zeros for what ``y``
    does not depend on. No ``.grad`` is changed. ``gradient`` is the cotangent to start
    from, shaped like ``y``; a ``y`` of one element does not need it. With
    ``create_graph``, the computation of the gradient is recorded, even inside
    ``no_grad``, so that it can be differentiated, explained and drawn.

    Raises: ``ValueError`` for a missing or misshapen ``gradient`` and for a ``wrt``
    that does not require a gradient, ``TypeError`` for a ``y`` or ``wrt`` that is not a
    tensor or a ``gradient`` that cannot be cast to the dtype of ``y``, ``RuntimeError``
    if a leaf has changed since it was used.
    """
    if not isinstance(y, Node) or not isinstance(wrt, Node | Iterable):
        raise errors.grad_of_no_tensor(y, wrt)
    wanted: list[Any] = [wrt] if isinstance(wrt, Node) else list(wrt)
    for x in wanted:
        if not isinstance(x, Node):
            raise errors.wrt_is_no_tensor(x)
        if not x._requires_grad:
            raise errors.wrt_requires_no_gradient(x)
    g: Any = initial_cotangent(y, gradient)
    context = recording() if create_graph else contextlib.nullcontext()
    with context:
        if create_graph:
            # If the cotangent is a node, the same loop runs the pullbacks on nodes, and
            # so records them. A gradient that was given as a node keeps its history.
            g = _as_tensor_like(y, gradient if isinstance(gradient, Node) else g)
        cotangents = backward_pass(y, g, set(wanted))
        gradients = [_as_tensor_like(x, cotangents.get(x)) for x in wanted]
    return gradients[0] if isinstance(wrt, Node) else gradients


def _as_tensor_like(x: Any, g: Any) -> Any:
    """``g`` as a tensor with the dtype of ``x``; zeros for None."""
    if isinstance(g, type(x)):
        return g if g.dtype == x.dtype else g.astype(x.dtype)
    return type(x)(np.zeros(x.shape) if g is None else g, dtype=x.dtype)


class Fused(Operation):
    """A hand-written forward and backward, paired with the composite that defines both.

    ``forward(*inputs, **params) -> (y, saved)`` and
    ``backward(g, saved, needs, *inputs, **params) -> gradients`` compute with arrays.
    ``needs`` says which inputs need a gradient; ``gradients`` has one entry per input,
    and entries for inputs that need none are ignored. ``backward`` must not change
    ``g`` or ``saved``.

    ``definition(*inputs, **params)`` computes the same result from tensors. A gradient
    that is to be differentiated is computed from it, so higher derivatives need no
    hand-written formula.
    """

    saves = True

    def __init__(
        self,
        name: str,
        forward: Callable,
        backward: Callable,
        definition: Callable,
        demands: str | None = None,
        doc: str | None = None,
    ):
        super().__init__(name, demands, doc)
        self.forward, self.backward, self.definition = forward, backward, definition

    def apply_pullbacks(
        self, g: Any, y: Node, needs: Sequence[bool]
    ) -> Iterable[tuple[Node, Any]]:
        if isinstance(g, Node):
            # The saved arrays have no history. So the definition computes y again from
            # the same inputs, and an inner backward pass goes through this new graph.
            # The inner pass must stop at the inputs, because the outer loop continues
            # from there. Otherwise, if input b was computed from input a, both the
            # inner pass and the outer loop would carry b's gradient on to a.
            wanted = set(itertools.compress(y.inputs, needs))
            boundary = {x for x in y.inputs if isinstance(x, Node)}
            cotangents = backward_pass(self.unfold(y), g, wanted, boundary)
            return [(x, cotangents[x]) for x in wanted if x in cotangents]
        gradients = self.backward(g, y.saved, needs, *values_of(y.inputs), **y.params)
        gradients = tuple(gradients)
        if len(gradients) != len(needs):
            raise errors.fused_gradients_missing(self, len(needs), len(gradients))
        return itertools.compress(zip(y.inputs, gradients), needs)

    def unfold(self, y: Node) -> Node:
        """The output ``y`` again, computed by the definition in the scope of ``y``."""
        depth = len(this_thread.scopes)
        try:
            this_thread.scopes.append(y.scope)
            with recording():
                return self.definition(*y.inputs, **y.params)
        finally:
            # Not pop(), because an interrupt may come before the scope was added.
            del this_thread.scopes[depth:]

"""Views of the graph behind a tensor: unfolded, in part, and in another precision.

    unfolded   with fused operations replaced by their definitions
    target     a leaf, or another tensor, whose gradient is asked about
    cut        a step at which ``stop_gradient`` stops the gradient
    replay     the same operations on the same leaves, usually in float64
    twin       the tensor in a replay that corresponds to a recorded one

A replay shows which gradients are zero and which are only small. The backward pass
alone cannot show it, because rounding in the forward pass dominates: in float32, at a
mean of 1e4, the route through Var[x] to a bias, which is exactly 0, comes out as 1% of
the direct one.

This file comes after ``batchnorm.py`` in the reading order; ``gates.py`` is next.

Left out on purpose: exact arithmetic. A gradient that is not zero, but 1e-9 times as
large as the others or as the terms of its sum, counts as zero.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import errors
from .backward import Fused, refuse_changed_leaves
from .ops import stop_gradient
from .scopes import recording
from .tape import tape
from .tensor import Tensor

# Relative to the largest value compared; rounding in float64 is smaller than this.
NEGLIGIBLE = 1e-9


class Unfolded:
    """The operations behind ``y``, with fused ones replaced by their definitions.

    ``order`` lists the tensors, each before its inputs. The output of an unfolded
    operation stays in the list, and its only input is the output of the definition, to
    which ``definitions`` maps it. ``within`` maps the tensors of a definition to the
    output of the operation.
    """

    def __init__(self, y: Tensor):
        self.y = y
        self.order: list[Any] = []
        self.definitions: dict[Tensor, Tensor] = {}
        self.within: dict[Tensor, Tensor] = {}
        self._users: dict[Tensor, Tensor] = {}
        # A stack: below, the tape of y; above, each fused operation that is being
        # unfolded, with the tape of its definition.
        tapes: list[tuple[Any, Iterator]] = [(None, iter(tape(y, through_cuts=True)))]
        while tapes:
            fused, rest = tapes[-1]
            node: Any = next(rest, None)
            if node is None:
                tapes.pop()
                continue
            refuse_changed_leaves(node)
            self.order.append(node)
            if fused is not None:
                self.within[node] = fused
            if isinstance(node.op, Fused):
                definition: Any = node.op.unfold(node)
                self.definitions[node] = definition
                inputs = {x for x in node.inputs if isinstance(x, Tensor)}
                tapes.append((node, iter(tape(definition, inputs, through_cuts=True))))
            for x in self.inputs(node):
                if isinstance(x, Tensor):
                    # The oldest user comes last and overwrites the others. It belongs
                    # to the forward pass, whose scopes know a parameter's name.
                    self._users[x] = node

    def name(self, t: Tensor) -> str | None:
        """The name of a tensor of the graph; for a parameter, its qualified name."""
        if t.op is None and t in self._users:
            return t.qualified_name(self._users[t].scope)
        return t.name

    def inputs(self, node: Tensor) -> tuple:
        """The inputs of ``node``, or the output of its definition if it is unfolded."""
        return (self.definitions[node],) if node in self.definitions else node.inputs


# --- Between the output and the leaf --------------------------------------------------


class Subgraph:
    """The part of a graph between its output and some tensors, the targets.

    ``steps`` maps each tensor in this part to the tensors that its gradient goes to
    next, each mapped to True if that step is a cut. Its order is that of the graph.
    """

    def __init__(self, graph: Unfolded, *targets: Tensor):
        self.graph, self.y, self.targets = graph, graph.y, dict.fromkeys(targets)
        reaches, beyond_cut = set(targets), set[Tensor]()
        for node in reversed(graph.order):
            inputs = graph.inputs(node)
            if not reaches.isdisjoint(inputs):
                reaches.add(node)
                if node.op is stop_gradient or not beyond_cut.isdisjoint(inputs):
                    beyond_cut.add(node)
        self.steps: dict[Tensor, dict[Tensor, bool]] = {
            node: self._steps_from(node, reaches, beyond_cut)
            for node in graph.order
            if node in reaches
        }

    def _steps_from(self, node: Any, reaches: set, beyond_cut: set) -> dict:
        """The steps from ``node``, each mapped to True if it is a cut.

        A step without a gradient is a cut only if ``stop_gradient`` caused it. Other
        such steps, for example into a mask, are on no route.
        """
        inputs = [
            x for x in self.graph.inputs(node) if isinstance(x, Tensor) and x in reaches
        ]
        steps = {x: not self._flows(node, x) for x in inputs}
        blamed = node.op is stop_gradient
        return {
            x: cut for x, cut in steps.items() if not cut or blamed or x in beyond_cut
        }

    def _flows(self, node: Any, x: Tensor) -> bool:
        if node in self.graph.definitions:
            return True
        return x.requires_grad and any(
            node.op.differentiates(i) for i, v in enumerate(node.inputs) if v is x
        )

    def apply_pullbacks(self, node: Any, g: np.ndarray | None) -> Iterator[tuple]:
        """Pairs of an input of ``node`` and its gradient for ``g``; None means cut."""
        steps = self.steps[node]
        if g is None or node in self.graph.definitions:
            yield from ((x, g) for x in steps)
        else:
            yield from ((x, None) for x, cut in steps.items() if cut)
            needed = {x for x, cut in steps.items() if not cut}
            needs = [isinstance(x, Tensor) and x in needed for x in node.inputs]
            for x, d_x in node.op.apply_pullbacks(g, node, needs):
                if np.shape(d_x) != x.shape:
                    raise errors.pullback_misshapen(node, x, d_x)
                yield x, d_x

    def on_every_route(self) -> set[Tensor]:
        """The tensors that every route passes."""
        places = {node: i for i, node in enumerate(self.steps)}
        found, farthest = set(), 0
        for i, (node, steps) in enumerate(self.steps.items()):
            # No step from an earlier tensor leads past this one.
            if farthest <= i:
                found.add(node)
            farthest = max((farthest, *(places.get(x, len(places)) for x in steps)))
        return found


# --- What is zero ---------------------------------------------------------------------


@recording()
@np.errstate(all="ignore")
def replay(y: Tensor, dtype: Any = np.float64) -> dict[Tensor, Tensor]:
    """Compute the graph behind ``y`` again from its leaves, with floats of ``dtype``.

    Returns ``{tensor: its twin}``, leaves included.
    """
    twins: dict[Tensor, Tensor] = {}

    def twin(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x not in twins:
            values = x.data.astype(dtype) if x.dtype.kind == "f" else x.data
            twins[x] = Tensor(values, x.requires_grad, x.name)
        return twins[x]

    node: Any
    for node in reversed(tape(y, through_cuts=True)):
        # Operations that convert to a float type, such as astype, convert to dtype.
        params = {
            name: np.dtype(dtype) if _is_float_dtype(value) else value
            for name, value in node.params.items()
        }
        twins[node] = node.op(*map(twin, node.inputs), **params)
        twins[node].name, twins[node].scope = node.name, node.scope
    return twins


def _is_float_dtype(param: Any) -> bool:
    return isinstance(param, np.dtype) and param.kind == "f"


def scale_of(exact: Iterable[np.ndarray]) -> np.ndarray:
    """The sizes that entries of gradients are compared with to see which are zero.

    Each is the largest entry in its place, but at least 1e-4 of the largest entry
    anywhere: where all entries are smaller than that, they may all be rounding.
    """
    sizes = [np.where(np.isfinite(d), np.abs(d), 0) for d in exact]
    largest = np.maximum.reduce(sizes) if sizes else np.zeros(())
    return np.maximum(largest, 1e-4 * largest.max(initial=0))


def without_rounding(
    recorded: np.ndarray, exact: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The ``recorded`` gradient, with 0 where it is only rounding.

    An entry is rounding if the replay, ``exact``, is at most 1e-9 of ``scale`` there.
    Entries that are not finite stay.
    """
    with np.errstate(invalid="ignore"):
        zero = np.isfinite(recorded) & (np.abs(exact) <= NEGLIGIBLE * scale)
    return np.where(zero, 0, recorded)


def largest_finite(values: np.ndarray) -> float:
    """The largest magnitude among the finite values, 0 if there are none."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))

"""Two views of the graph behind a tensor: unfolded, and in another precision.

    unfolded   with fused operations replaced by their definitions
    replay     the same operations on the same leaves, usually in float64
    twin       the tensor in a replay that corresponds to a recorded one

A replay shows which gradients are zero and which are only small. The backward pass
alone cannot show it, because rounding in the forward pass dominates: in float32, at a
mean of 1e4, the route through Var[x] to a bias, which is exactly 0, comes out as 1% of
the direct one.

This file comes after ``batchnorm.py`` in the reading order; ``gates.py`` is next.

Left out on purpose: exact arithmetic. A gradient that is not zero, but 1e-9 times as
large as the others, counts as zero.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .backward import Fused, refuse_changed_leaves, tape
from .scopes import recording
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

"""The gradient of a leaf, route by route.

Pullbacks are linear, so a backward pass may carry ``{route: cotangent}`` instead of one
cotangent: a gate adds its name to the routes that pass it. This is exact for every
graph, and the routes of a leaf sum to its gradient. For a bias in front of batch norm
they show why that sum is zero: what arrives directly is taken back via E[x].

==================  ====================================================================
route               a path of the gradient from the loss to a leaf, identified by the
                    gates that it passes
gate                a named tensor that some routes pass and others do not
statistic           E[x] or Var[x] inside a call of batch norm
last batch norm     of a route: the call of batch norm nearest to the leaf
cut                 a route that ``stop_gradient`` interrupts: nothing arrives by it
replay              the same graph, computed again in another precision
==================  ====================================================================

By default, the statistics of its last batch norm identify a route: a cotangent that
enters another call of batch norm forgets the statistics it has passed so far. So a bias
under twenty batch norms has the same four rows as a bias under one.

This file comes after ``batchnorm.py`` in the reading order; ``explanation.py`` prints
what it finds.

Left out on purpose: routes of second derivatives (differentiate first, then explain),
and a search for gates without names: what a table should separate, its author names.
"""

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .backward import Fused, initial_cotangent, refuse_changed_leaves, tape
from .batchnorm import batch_norm
from .errors import describe
from .explanation import Explanation, Route, largest_finite
from .ops import broadcast_to, stop_gradient
from .scopes import Scope, always_recorded, enclosing
from .tensor import Tensor

STATISTICS, X_HAT = ("E[x]", "Var[x]"), "x_hat"
MAX_STATISTICS, MAX_ROWS, MAX_ROWS_BY_HAND = 6, 16, 1000
NEGLIGIBLE = 1e-9


def explain(
    y: Tensor,
    leaf: Tensor,
    gradient: Any = None,
    gates: Iterable[str] | None = None,
) -> Explanation:
    """Show by which routes the gradient of ``y`` reaches ``leaf``, and how much by each.

    By default a row is the sum of the routes that pass the same statistics of the same
    last batch norm, and the same tensors named outside batch norm. ``gates`` are names
    to identify routes by instead. ``gradient`` is the cotangent to start from, shaped
    like ``y``; a ``y`` of one element does not need it.

    Raises: ``ValueError`` for a ``y`` without history, a leaf that requires no
    gradient, a gate that is not there, a missing or misshapen ``gradient``.
    """
    refuse_unrecorded("explain", y)
    refuse_unexplainable("explain", leaf)
    g = initial_cotangent(y, gradient)
    subgraph = Subgraph(Unfolded(y), leaf)
    chosen = subgraph.gates(gates)
    rows = _by_row(carry(subgraph, chosen, g)[leaf])

    twins, vanished = replay(y), set()
    twin = Subgraph(Unfolded(twins[y]), twins.get(leaf, leaf))

    def note_sums(node, x, key, d_y, d_x):
        if node.op is broadcast_to and d_x is not None:
            if largest_finite(d_x) <= NEGLIGIBLE * largest_finite(d_y) > 0:
                vanished.add(key.gates)

    (arrived,) = carry(twin, twin.gates(gates), g.astype(float), note_sums).values()
    exact = {row: _sum(shares, leaf.shape) for row, shares in _by_row(arrived).items()}
    scale = scale_of(exact.values())

    def route(row: tuple[bool, tuple[str, ...]]) -> Route:
        around, gates = row
        gradient = _sum(rows[row], leaf.shape, leaf.dtype)
        shown = without_rounding(gradient, exact[row], scale)
        cut = all(g is None for g in rows[row])
        note = ""
        if gates in vanished and not shown.any() and not cut:
            note = "because its rows sum to 0"
        elif any(g is None for g in rows[row]) and not cut:
            note = "some of its routes are cut"
        return Route(gates, gradient, shown, cut, around, note)

    order = {name: -i for i, name in enumerate(chosen.names.values())}
    routes = [route(row) for row in rows]
    routes.sort(key=lambda r: (r.around, len(r.gates), [order[g] for g in r.gates]))
    total = _sum((r.gradient for r in routes), leaf.shape, leaf.dtype)
    shown_total = without_rounding(total, _sum(exact.values(), leaf.shape), scale)
    name = subgraph.graph.name(leaf) or "leaf"
    return Explanation(y, leaf, name, tuple(routes), total, shown_total, chosen.summed)


def _by_row(arrived: dict["Key", Any]) -> dict[tuple[bool, tuple[str, ...]], list]:
    """``{(around, gates): gradients}``: what arrives, by the rows of the table."""
    rows = defaultdict(list)
    beside = {key.normalized for key in arrived} == {True, False}
    for key, gradient in arrived.items():
        rows[beside and not key.normalized, key.gates].append(gradient)
    return rows


def _sum(gradients: Iterable, shape: tuple, dtype: Any = float) -> np.ndarray:
    """The sum of gradients, of which None is 0."""
    with np.errstate(all="ignore"):
        return sum((g for g in gradients if g is not None), np.zeros(shape, dtype))


def what_cancels(y: Tensor, leaf: Tensor, gradient: Any = None) -> Explanation | None:
    """The routes that cancel at ``leaf``, or None if none do.

    They are followed from the tensor at which they part. There arrives a random
    cotangent, or what arrives of ``gradient``, the cotangent of ``y``.
    """
    graph = Unfolded(y)
    subgraph = Subgraph(graph, leaf)
    if not (gates := list(subgraph.gates(None).names)):
        return None
    parting = subgraph.parting(gates[-1])
    if gradient is None:
        g = np.random.default_rng(0).standard_normal(parting.shape)
    else:
        above = Subgraph(graph, parting)
        arrived = carry(above, Gates({}), initial_cotangent(y, gradient))
        g = _sum(arrived[parting].values(), parting.shape)
    routes = explain(parting, leaf, g)
    return routes if routes.cancels else None


def refuse_unexplainable(function: str, leaf: Any) -> None:
    """Raise if there is no gradient of ``leaf`` to explain."""
    if not isinstance(leaf, Tensor) or not leaf.requires_grad:
        raise ValueError(
            f"{function}(y, leaf): the leaf must be a tensor that requires a gradient, "
            f"but {describe(leaf)} was received. Make it with requires_grad=True."
        )


def refuse_unrecorded(function: str, y: Any) -> None:
    """Raise if there is no graph behind ``y``, and say why that may be."""
    if not isinstance(y, Tensor):
        raise TypeError(
            f"{function}(y): y must be a tensor, but {describe(y):.60} was received."
        )
    if y.op is None and y.requires_grad:
        raise ValueError(
            f"{function}(y): y must be computed from something, but {describe(y)} is a "
            f"leaf. The order is {function}(y, leaf)."
        )
    if y.op is None:
        raise ValueError(
            f"{function}(y): y must be computed from something that requires a "
            f"gradient, but nothing was recorded for {describe(y)}. Was it computed "
            "under no_grad(), detached, or made of tensors without requires_grad=True?"
        )


# --- What is zero ---------------------------------------------------------------------


@always_recorded
@np.errstate(all="ignore")
def replay(y: Tensor, dtype: Any = np.float64) -> dict[Tensor, Tensor]:
    """Compute the graph behind ``y`` again from its leaves, with floats of ``dtype``.

    Returns ``{tensor: its twin}``. Rounding shrinks with the precision, and gradients
    stay: so the twins show what is zero and what is small.
    """
    twins: dict[Tensor, Tensor] = {}

    def twin(x):
        if not isinstance(x, Tensor):
            return x
        if x not in twins:
            values = x.data.astype(dtype) if x.dtype.kind == "f" else x.data
            twins[x] = Tensor(values, x.requires_grad, x.name)
        return twins[x]

    for node in reversed(tape(y, through_cuts=True)):
        params = {
            name: np.dtype(dtype) if _is_float_dtype(value) else value
            for name, value in node.params.items()
        }
        twins[node] = node.op(*map(twin, node.inputs), **params)
        twins[node].name, twins[node].scope = node.name, node.scope
    return twins


def _is_float_dtype(param: Any) -> bool:
    return isinstance(param, np.dtype) and param.kind == "f"


def scale_of(gradients: Iterable[np.ndarray]) -> Any:
    """What to compare the entries of some gradients with, to see which are zero.

    That is the largest of them in the same place, or 1e-4 of the largest anywhere:
    where routes cancel, and where the only thing that arrives is rounding.
    """
    sizes = [np.where(np.isfinite(d), np.abs(d), 0) for d in gradients]
    largest = np.maximum.reduce(sizes) if sizes else np.zeros(())
    return np.maximum(largest, 1e-4 * largest.max(initial=0))


def without_rounding(recorded: np.ndarray, exact: np.ndarray, scale: Any) -> np.ndarray:
    """The ``recorded`` gradient, with 0 where it is only rounding.

    It is where the replay, ``exact``, is negligible compared with ``scale``. What is not
    finite stays.
    """
    with np.errstate(invalid="ignore"):
        zero = np.isfinite(recorded) & (np.abs(exact) <= NEGLIGIBLE * scale)
    return np.where(zero, 0, recorded)


# --- The graph ------------------------------------------------------------------------


class Unfolded:
    """The operations behind ``y``, with fused ones replaced by their definitions.

    ``order`` lists tensors so that each comes before those it was made of. An unfolded
    operation stays in it, made of nothing but the output of its definition;
    ``definitions`` leads from the one to the other, ``within`` from the tensors of a
    definition to the operation that it defines.
    """

    def __init__(self, y: Tensor, opened: Callable[[Tensor], bool] = lambda node: True):
        self.y = y
        self.definitions: dict[Tensor, Tensor] = {}
        self.within: dict[Tensor, Tensor] = {}
        self.order: list[Tensor] = []
        self._users: dict[Tensor, Tensor] = {}
        tapes: list[tuple[Tensor | None, Iterator[Tensor]]]
        tapes = [(None, iter(tape(y, through_cuts=True)))]  # type: ignore[arg-type]
        while tapes:
            fused, rest = tapes[-1]
            node = next(rest, None)
            if node is None:
                tapes.pop()
                continue
            refuse_changed_leaves(node)
            self.order.append(node)
            if fused is not None:
                self.within[node] = fused
            if isinstance(node.op, Fused) and opened(node):
                definition = self.definitions[node] = node.op.unfold(node)
                boundary = {x for x in node.inputs if isinstance(x, Tensor)}
                inside = iter(tape(definition, boundary, through_cuts=True))
                tapes.append((node, inside))
            for x in self.inputs(node):
                if isinstance(x, Tensor):
                    self._users.setdefault(x, node)

    def name(self, t: Tensor) -> str | None:
        """The name of a tensor of the graph; for a parameter, its qualified name."""
        if t.op is None and t in self._users:
            return t.qualified_name(self._users[t].scope)
        return t.name

    def inputs(self, node: Tensor) -> tuple:
        """What ``node`` was made of."""
        return (self.definitions[node],) if node in self.definitions else node.inputs


class Subgraph:
    """What lies between the output of a graph and some tensors, the targets.

    ``steps`` gives, for each tensor between them, those to which its gradient goes on,
    and whether that step is a cut; its order is that of the graph.
    """

    def __init__(self, graph: Unfolded, *targets: Tensor):
        self.graph, self.y, self.targets = graph, graph.y, dict.fromkeys(targets)
        reaches, beyond_cut = set(targets), set()
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

    def _steps_from(self, node: Tensor, reaches: set, beyond_cut: set) -> dict:
        """The steps on from ``node``, and whether each is a cut.

        A step without a gradient counts only where ``stop_gradient`` is to blame;
        others, such as the step into a mask, belong to no route.
        """
        inputs = [
            x for x in self.graph.inputs(node) if isinstance(x, Tensor) and x in reaches
        ]
        steps = {x: not self._flows(node, x) for x in inputs}
        blamed = node.op is stop_gradient
        return {
            x: cut for x, cut in steps.items() if not cut or blamed or x in beyond_cut
        }

    def _flows(self, node: Tensor, x: Tensor) -> bool:
        if node in self.graph.definitions:
            return True
        return x.requires_grad and any(
            node.op.differentiates(i) for i, v in enumerate(node.inputs) if v is x
        )

    def apply_pullbacks(self, node: Tensor, g: np.ndarray | None) -> Iterator[tuple]:
        """Where the cotangent ``g`` of ``node`` goes, and as what: None if it is cut."""
        steps = self.steps[node]
        if g is None or node in self.graph.definitions:
            yield from ((x, g) for x in steps)
        else:
            yield from ((x, None) for x, cut in steps.items() if cut)
            needed = {x for x, cut in steps.items() if not cut}
            needs = [isinstance(x, Tensor) and x in needed for x in node.inputs]
            yield from node.op.apply_pullbacks(g, node, needs)

    def on_every_route(self) -> set[Tensor]:
        """The tensors that no route avoids: no step leads past them."""
        places = {node: i for i, node in enumerate(self.steps)}
        found, farthest = set(), 0
        for i, (node, steps) in enumerate(self.steps.items()):
            if farthest <= i:
                found.add(node)
            farthest = max((farthest, *(places.get(x, len(places)) for x in steps)))
        return found

    def parting(self, gate: Tensor) -> Tensor:
        """The last tensor before ``gate`` that every route passes."""
        every = self.on_every_route()
        before = itertools.takewhile(lambda node: node is not gate, self.steps)
        return [node for node in before if node in every][-1]

    def gates(self, wanted: Iterable[str] | None = None) -> "Gates":
        """The gates of the ``wanted`` names; by default the statistics and other names."""
        ends = {self.y, *self.targets}
        named = [t for t in self.steps if t.name is not None and t not in ends]
        if wanted is None:
            every = self.on_every_route()
            return self._default_gates([t for t in named if t not in every])
        wanted = {wanted} if isinstance(wanted, str) else set(wanted)
        names = {t: t.qualified_name() for t in named}
        if missing := wanted - set(names.values()):
            raise ValueError(
                f"gates must be names of tensors between {describe(self.y)} and "
                f"{describe(next(iter(self.targets)))}, but {sorted(missing)} is not "
                f"among {sorted(set(names.values()))}. Name a tensor with .named()."
            )
        gates = Gates({t: name for t, name in names.items() if name in wanted})
        if self._count_rows(gates, MAX_ROWS_BY_HAND) > MAX_ROWS_BY_HAND:
            raise ValueError(
                f"gates must make at most {MAX_ROWS_BY_HAND} rows, but these "
                f"{len(wanted)} names make more. Name fewer of them."
            )
        return gates

    def _default_gates(self, parting: list[Tensor]) -> "Gates":
        """The statistics of each last batch norm, and what was named outside of one.

        Where these are many, all batch norms share their rows. The other tensors are
        gates from the leaf on, as far as the table has room for them.
        """
        inside = {t: call for t in self.steps if (call := _batch_norm_around(t))}
        calls = _normalizing(inside)
        statistics = [t for t in parting if t in calls and t.name in STATISTICS]
        its_own = {t for t in inside if t.name in (*STATISTICS, X_HAT)}
        others = [t for t in reversed(parting) if t not in its_own]
        last = self._reaching_no_other(calls)
        names = {t: t.qualified_name() for t in statistics if t in last}
        shared = len(set(names.values())) > MAX_STATISTICS
        if shared:
            names = {t: t.name for t in names}

        def with_nearest(k: int) -> Gates:
            chosen = names | {t: t.qualified_name() for t in others[:k]}
            return Gates({t: chosen[t] for t in parting if t in chosen}, calls)

        def rows(k: int) -> int:
            return self._count_rows(with_nearest(k), MAX_ROWS)

        room = bisect.bisect_right(range(len(others) + 1), MAX_ROWS, key=rows) - 1
        gates = with_nearest(max(room, 0))
        separable = {*statistics, *others} - (set() if shared else gates.names.keys())
        gates.summed = _summed([t for t in reversed(parting) if t in separable], shared)
        return gates

    def _reaching_no_other(self, calls: dict[Tensor, Scope]) -> set[Tensor]:
        """The tensors from which a route reaches a target and enters no batch norm."""
        found = set(self.targets)
        for node, steps in reversed(self.steps.items()):
            if any(x in found and not _enters(calls, node, x) for x in steps):
                found.add(node)
        return found

    def _count_rows(self, gates: "Gates", limit: int) -> int:
        """How many rows these gates make; some number above ``limit`` if that many."""
        arriving = defaultdict(set, {self.y: {gates.start(self.y)}})
        for node, steps in self.steps.items():
            keys = arriving[node]
            if len(keys) > limit:
                return len(keys)
            for x in steps:
                arriving[x] |= {gates.onward(key, node, x) for key in keys}
        return max((len(arriving[x]) for x in self.targets), default=0)


# --- Carrying cotangents --------------------------------------------------------------


class Key(NamedTuple):
    """What identifies the routes that a cotangent stands for.

    ``gates`` are those passed, and ``lasting`` those of them that are not forgotten.
    """

    gates: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    normalized: bool = False
    cut: bool = False


@dataclass
class Gates:
    """The ``names`` of gates, and the ``calls`` of batch norm that routes forget."""

    names: dict[Tensor, str]
    calls: dict[Tensor, Scope] = field(default_factory=dict)
    summed: str = ""

    def start(self, y: Tensor) -> Key:
        return Key(normalized=y in self.calls)

    def onward(self, key: Key, node: Tensor, x: Tensor, cut: bool = False) -> Key:
        """The key of what goes on from ``node`` to ``x``."""
        gates, lasting, normalized, was_cut = key
        if _enters(self.calls, node, x):
            gates, normalized = lasting, True
        if x in self.names:
            gates = (*gates, self.names[x])
            if x not in self.calls:
                lasting = (*lasting, self.names[x])
        return Key(gates, lasting, normalized, cut or was_cut)


def carry(
    subgraph: Subgraph, gates: Gates, g: np.ndarray, observe: Callable | None = None
) -> dict[Tensor, dict[Key, np.ndarray | None]]:
    """A backward pass with one cotangent for each key: None where routes are cut.

    ``observe(node, x, key, d_y, d_x)``, if given, sees every step. Returns what arrives
    at each target.
    """
    carried = {subgraph.y: {gates.start(subgraph.y): g}}
    with np.errstate(all="ignore"):
        for node in subgraph.steps:
            arrived = carried.get(node, {})
            if node not in subgraph.targets:
                carried.pop(node, None)
            for key, d_y in arrived.items():
                for x, d_x in subgraph.apply_pullbacks(node, d_y):
                    onward = gates.onward(key, node, x, cut=d_x is None)
                    at_x = carried.setdefault(x, {})
                    before = at_x.get(onward)
                    at_x[onward] = d_x if before is None else before + d_x
                    if observe is not None:
                        observe(node, x, onward, d_y, d_x)
    return {x: carried.get(x, {}) for x in subgraph.targets}


def _batch_norm_around(t: Tensor) -> Scope | None:
    """The call of batch norm in which ``t`` was computed."""
    name = batch_norm.__name__
    for call in enclosing(None if t.op is None else t.scope):
        if call.owner is None and call.name == name:
            return call
    return None


def _normalizing(inside: dict[Tensor, Scope]) -> dict[Tensor, Scope]:
    """The part of each call that normalizes by the batch, without gamma and beta.

    A route to beta does not pass the batch norm that adds it.
    """
    calls = {call for t, call in inside.items() if t.name in STATISTICS}
    ends = {call: t.timestamp for t, call in inside.items() if t.name == X_HAT}
    return {
        t: call
        for t, call in inside.items()
        if call in calls and t.timestamp <= ends.get(call, t.timestamp)
    }


def _enters(calls: dict[Tensor, Scope], node: Tensor, x: Tensor) -> bool:
    """Whether the step from ``node`` to ``x`` enters a call of batch norm."""
    return x in calls and calls[x] is not calls.get(node)


def _summed(separable: list[Tensor], shared: bool) -> str:
    """The remark on routes that share a row, with names that would separate them."""
    if not separable:
        return ""
    names = dict.fromkeys(t.qualified_name() for t in separable[:4])
    what = "E[x] and Var[x] are those of any batch norm" if shared else "rows are sums"
    return f"{what}; gates= separates them, for example by {', '.join(map(str, names))}"


__all__ = ["Explanation", "Route", "explain"]

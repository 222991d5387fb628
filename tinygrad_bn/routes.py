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
==================  ====================================================================

By default, the statistics of its last batch norm identify a route: a cotangent that
enters another call of batch norm forgets the statistics it has passed so far. So a bias
under twenty batch norms has the same four rows as a bias under one.

This file comes after ``graph.py`` in the reading order; ``explanation.py`` prints what
it finds.

Left out on purpose: routes of second derivatives (differentiate first, then explain),
and a search for gates without names: what a table should separate, its author names.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .backward import initial_cotangent
from .batchnorm import batch_norm
from .errors import describe
from .explanation import Explanation, Route, Row
from .graph import (
    NEGLIGIBLE,
    Unfolded,
    largest_finite,
    replay,
    scale_of,
    without_rounding,
)
from .ops import broadcast_to, stop_gradient
from .scopes import Scope, enclosing
from .tensor import Tensor

STATISTICS, X_HAT = ("E[x]", "Var[x]"), "x_hat"
MAX_STATISTICS, MAX_ROWS, MAX_ROWS_BY_HAND = 6, 16, 1000


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
    rows = by_row(carry(subgraph, chosen, g)[leaf])
    exact, vanished = _replayed(y, leaf, g, gates)
    scale = scale_of(exact.values())

    def route(row: Row, shares: list) -> Route:
        gradient = _sum(shares, leaf)
        shown = without_rounding(gradient, exact[row], scale)
        cut = all(d is None for d in shares)
        note = ""
        if not cut and any(d is None for d in shares):
            note = "some of its routes are cut"
        elif not cut and row.gates in vanished and not shown.any():
            note = "because its rows sum to 0"
        return Route(row.gates, gradient, shown, cut, row.around, note)

    order = {name: -i for i, name in enumerate(chosen.names.values())}
    routes = [route(row, shares) for row, shares in rows.items()]
    routes.sort(key=lambda r: (r.around, len(r.gates), [order[g] for g in r.gates]))
    total = _sum((r.gradient for r in routes), leaf)
    shown_total = without_rounding(total, _sum(exact.values(), leaf), scale)
    name = subgraph.graph.name(leaf) or "leaf"
    return Explanation(y, leaf, name, tuple(routes), total, shown_total, chosen.summed)


def _replayed(y: Tensor, leaf: Tensor, g: np.ndarray, gates) -> tuple[dict, set]:
    """The rows in float64, and the gates of those that broadcasting sums to zero."""
    twins = replay(y)
    leaf = twins.get(leaf, leaf)
    subgraph, vanished = Subgraph(Unfolded(twins[y]), leaf), set()

    def note_sums(node, x, key, d_y, d_x):
        sums = node.op is broadcast_to and d_x is not None
        if sums and largest_finite(d_x) <= NEGLIGIBLE * largest_finite(d_y) > 0:
            vanished.add(key.gates)

    arrived = carry(subgraph, subgraph.gates(gates), g.astype(float), note_sums)[leaf]
    return {
        row: _sum(shares, leaf) for row, shares in by_row(arrived).items()
    }, vanished


def by_row(arrived: dict["Key", Any]) -> dict[Row, list]:
    """What ``carry`` brings to a target, by the rows of the table: None where cut."""
    rows = defaultdict(list)
    some_around = len({key.normalized for key in arrived}) == 2
    for key, gradient in arrived.items():
        rows[Row(some_around and not key.normalized, key.gates)].append(gradient)
    return rows


def _sum(gradients: Iterable, leaf: Tensor) -> np.ndarray:
    """The sum of gradients of ``leaf``, of which None is 0."""
    with np.errstate(all="ignore"):
        alive = (d for d in gradients if d is not None)
        return sum(alive, np.zeros(leaf.shape, leaf.dtype))


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


# --- Between the output and the leaf --------------------------------------------------


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

    def gates(self, wanted: Iterable[str] | None = None) -> "Gates":
        """The gates of the names ``wanted``, or those of the default."""
        ends = {self.y, *self.targets}
        named = [t for t in self.steps if t.name is not None and t not in ends]
        if wanted is None:
            return _default_gates(self, named)
        return _gates_by_hand(self, named, wanted)


# --- Carrying cotangents --------------------------------------------------------------


class Key(NamedTuple):
    """What identifies the routes that a cotangent stands for.

    ``gates`` are those passed, and ``lasting`` those of them that are never forgotten.
    ``normalized`` routes have passed a batch norm.
    """

    gates: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    normalized: bool = False
    cut: bool = False


@dataclass
class Gates:
    """The ``names`` of gates, and where routes forget the statistics among them.

    ``calls`` are those of batch norm, by the tensors inside. From the tensors ``above``,
    every route leads into one.
    """

    names: dict[Tensor, str]
    calls: dict[Tensor, Scope] = field(default_factory=dict)
    above: set[Tensor] = field(default_factory=set)
    summed: str = ""

    def onward(self, key: Key, node: Tensor, x: Tensor, cut: bool = False) -> Key:
        """The key of what goes on from ``node`` to ``x``."""
        gates, lasting = key.gates, key.lasting
        if x in self.above or _enters(self.calls, node, x):
            gates = lasting
        if x in self.names:
            gates = (*gates, self.names[x])
            if x not in self.calls:
                lasting = (*lasting, self.names[x])
        return Key(gates, lasting, key.normalized or x in self.calls, key.cut or cut)


def carry(
    subgraph: Subgraph, gates: Gates, g: np.ndarray, observe: Callable | None = None
) -> dict[Tensor, dict[Key, np.ndarray | None]]:
    """A backward pass with one cotangent for each key: None where routes are cut.

    ``observe(node, x, key, d_y, d_x)``, if given, sees every step. Returns what arrives
    at each target.
    """
    y, targets = subgraph.y, subgraph.targets
    carried: dict[Tensor, dict] = {y: {Key(normalized=y in gates.calls): g}}
    with np.errstate(all="ignore"):
        for node in subgraph.steps:
            arrived = (
                carried.get(node, {}) if node in targets else carried.pop(node, {})
            )
            for key, d_y in arrived.items():
                for x, d_x in subgraph.apply_pullbacks(node, d_y):
                    onward = gates.onward(key, node, x, cut=d_x is None)
                    at_x = carried.setdefault(x, {})
                    before = at_x.get(onward)
                    at_x[onward] = d_x if before is None else before + d_x
                    if observe is not None:
                        observe(node, x, onward, d_y, d_x)
    return {x: carried.get(x, {}) for x in targets}


# --- Choosing gates -------------------------------------------------------------------


def _gates_by_hand(subgraph: Subgraph, named: list[Tensor], wanted) -> Gates:
    wanted = {wanted} if isinstance(wanted, str) else set(wanted)
    names = {t: t.qualified_name() for t in named}
    if missing := wanted - set(names.values()):
        raise ValueError(
            f"gates must be names of tensors between {describe(subgraph.y)} and "
            f"{describe(next(iter(subgraph.targets)))}, but {sorted(missing)} is not "
            f"among {sorted(set(names.values()))}. Name a tensor with .named()."
        )
    gates = Gates({t: name for t, name in names.items() if name in wanted})
    if _count_rows(subgraph, gates, MAX_ROWS_BY_HAND) > MAX_ROWS_BY_HAND:
        raise ValueError(
            f"gates must make at most {MAX_ROWS_BY_HAND} rows, but these {len(wanted)} "
            "names make more. Name fewer of them."
        )
    return gates


def _default_gates(subgraph: Subgraph, named: list[Tensor]) -> Gates:
    """The statistics of each last batch norm, and what was named outside of one.

    If these are many, all batch norms share their rows. The other tensors are gates from
    the leaf on, as far as the table has room for them. Several targets have no table.
    """
    every = subgraph.on_every_route()
    inside = {t: call for t in subgraph.steps if (call := batch_norm_around(t))}
    calls = _normalizing(inside)
    above = _leading_into(subgraph, calls)
    one_table = len(subgraph.targets) == 1
    statistics = [t for t in named if t in calls and t.name in STATISTICS]
    its_own = {t for t in inside if t.name in (*STATISTICS, X_HAT)}
    others = [t for t in reversed(named) if one_table and t not in its_own | every]
    names = {t: t.qualified_name() for t in statistics if t not in above}
    shared = one_table and len(set(names.values())) > MAX_STATISTICS
    if shared:
        names = {t: t.name for t in names}

    def with_nearest(k: int) -> Gates:
        chosen = names | {t: t.qualified_name() for t in others[:k]}
        return Gates({t: chosen[t] for t in named if t in chosen}, calls, above)

    def rows(k: int) -> int:
        return _count_rows(subgraph, with_nearest(k), MAX_ROWS)

    room = bisect.bisect_right(range(len(others) + 1), MAX_ROWS, key=rows) - 1
    gates = with_nearest(max(room, 0))
    separable = {*statistics, *others} - (set() if shared else gates.names.keys())
    gates.summed = _summed([t for t in reversed(named) if t in separable], shared)
    return gates


def _count_rows(subgraph: Subgraph, gates: Gates, limit: int) -> int:
    """How many rows these gates make; any number above ``limit`` if more than that."""
    arriving = defaultdict(set, {subgraph.y: {Key()}})
    for node, steps in subgraph.steps.items():
        keys = arriving[node]
        if len(keys) > limit:
            return len(keys)
        for x in steps:
            arriving[x] |= {gates.onward(key, node, x) for key in keys}
    return max(len(arriving[x]) for x in subgraph.targets)


def batch_norm_around(t: Tensor) -> Scope | None:
    """The call of batch norm in which ``t`` was computed."""
    for call in enclosing(None if t.op is None else t.scope):
        if call.owner is None and call.name == batch_norm.__name__:
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


def _leading_into(subgraph: Subgraph, calls: dict[Tensor, Scope]) -> set[Tensor]:
    """The tensors from which every route enters another batch norm."""
    free = set(subgraph.targets)
    for node, steps in reversed(subgraph.steps.items()):
        if any(x in free and not _enters(calls, node, x) for x in steps):
            free.add(node)
    return subgraph.steps.keys() - free


def _summed(separable: list[Tensor], shared: bool) -> str:
    """The remark on routes that share a row, with names that would separate them."""
    if not separable:
        return ""
    names = dict.fromkeys(str(t.qualified_name()) for t in separable[:4])
    what = "E[x] and Var[x] are those of any batch norm" if shared else "rows are sums"
    return f"{what}; gates= separates them, for example by {', '.join(names)}"


__all__ = ["Explanation", "Route", "explain"]

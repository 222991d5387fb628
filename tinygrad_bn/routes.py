"""The gradient of a leaf, route by route.

Pullbacks are linear, so a backward pass may carry ``{route: cotangent}`` instead of one
cotangent: a gate adds its name to the routes that pass it. This is exact for every
graph, and the routes of a leaf sum to its gradient. For a bias in front of batch norm,
they show why that sum is zero: the route via E[x] cancels the direct one.

    route   a path of the gradient from the loss to a leaf, identified by the gates that
            it passes
    gate    a named tensor that some routes pass and others do not
    cut     interrupted by ``stop_gradient``, so that nothing arrives

By default, a route is identified by the last batch norm that it passes before the leaf,
and by the statistics, E[x] and Var[x], that it passes inside; everything nearer to the
loss is summed. So a bias under twenty batch norms has the same four rows as a bias
under one.

This file comes after ``gates.py`` and ``explanation.py`` in the reading order.

Left out on purpose: routes of second derivatives (differentiate first, then explain),
and gates without names (name the tensors that a table should separate).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .backward import initial_cotangent
from .errors import describe
from .explanation import Explanation, Route, Row
from .gates import MAX_ROWS, Gates, Key, choose_gates
from .graph import (
    NEGLIGIBLE,
    Subgraph,
    Unfolded,
    largest_finite,
    replay,
    scale_of,
    without_rounding,
)
from .module import Module
from .ops import broadcast_to, sum_to
from .tensor import Tensor


def explain(
    y: Tensor,
    leaf: Tensor,
    gradient: Any = None,
    gates: Iterable[str] | None = None,
) -> Explanation:
    """Show the routes by which the gradient of ``y`` reaches ``leaf``.

    By default, a row is the sum of the routes that pass the same statistics of the same
    last batch norm, and the same tensors named outside batch norm. ``gates``, if given,
    are the names that identify routes instead. If there are more than 16 rows, the last
    one is the sum of the smallest. ``gradient`` is the initial cotangent, shaped like
    ``y``; it is optional if ``y`` has one element.

    Raises: ``ValueError`` for a ``y`` without history, a leaf that requires no
    gradient, an unknown gate, ``gates`` that make more than 1,000 rows, or a missing or
    misshapen ``gradient``; ``TypeError`` for a ``y`` that is not a tensor;
    ``RuntimeError`` if a leaf has changed since it was used.
    """
    refuse_unrecorded("explain", y)
    refuse_unexplainable("explain", leaf)
    if gates is not None and not isinstance(gates, str):
        gates = set(gates)  # An iterator could be read only once.
    g = initial_cotangent(y, gradient)
    subgraph = Subgraph(Unfolded(y), leaf)
    chosen = choose_gates(subgraph, gates)
    rows = by_row(carry(subgraph, chosen, g)[leaf])
    exact, vanished = _replayed(y, leaf, g, gates)
    scale = scale_of(exact.values())
    routes = []
    for row, shares in rows.items():
        gradient = _sum(shares, leaf)
        shown = without_rounding(gradient, exact.get(row, gradient), scale)
        routes.append(_route(row, shares, gradient, shown, vanished))
    order = {name: -i for i, name in enumerate(chosen.names.values())}
    routes.sort(key=lambda r: (r.around, len(r.gates), [order[g] for g in r.gates]))
    if len(routes) > MAX_ROWS:
        routes = _with_last_row(routes, exact, scale, leaf)
    total = _sum((r.gradient for r in routes), leaf)
    shown_total = without_rounding(total, _sum(exact.values(), leaf), scale)
    name = subgraph.graph.name(leaf) or "leaf"
    return Explanation(y, leaf, name, tuple(routes), total, shown_total, chosen.hint)


def _route(
    row: Row,
    shares: list,
    gradient: np.ndarray,
    shown: np.ndarray,
    vanished: set[tuple[str, ...]],
) -> Route:
    """A row of the table, with a note on what may surprise a reader."""
    cut = all(d is None for d in shares)
    note = ""
    if not cut and any(d is None for d in shares):
        note = "some of its routes are cut"
    elif not cut and row.gates in vanished and not shown.any():
        note = "because its rows sum to 0"
    elif row.around:
        note = "not normalized by E[x] and Var[x]"
    return Route(row.gates, gradient, shown, cut, row.around, note)


def _with_last_row(
    routes: list[Route], exact: dict[Row, np.ndarray], scale: np.ndarray, leaf: Tensor
) -> list[Route]:
    """The rows with the largest gradients, in order, and one that sums all others."""

    def size(i: int) -> float:
        return largest_finite(routes[i].gradient)

    largest = set(sorted(range(len(routes)), key=size)[-(MAX_ROWS - 1) :])
    others = [r for i, r in enumerate(routes) if i not in largest]
    gradient = _sum((r.gradient for r in others), leaf)
    exact_rows = (exact.get(Row(r.around, r.gates), r.gradient) for r in others)
    shown = without_rounding(gradient, _sum(exact_rows, leaf), scale)
    cut = all(r.cut for r in others)
    last = Route((), gradient, shown, cut, merged=len(others))
    return [routes[i] for i in sorted(largest)] + [last]


def _replayed(
    y: Tensor, leaf: Tensor, g: np.ndarray, gates: Iterable[str] | None
) -> tuple[dict[Row, np.ndarray], set[tuple[str, ...]]]:
    """The rows in float64, and the gates of those that sum to 0 over broadcast axes."""
    replayed = replay(y)
    leaf = replayed.get(leaf, leaf)
    subgraph = Subgraph(Unfolded(replayed[y]), leaf)
    vanished: set[tuple[str, ...]] = set()

    def note_sums(
        node: Tensor, x: Tensor, key: Key, onward: Key, d_y: Any, d_x: Any
    ) -> None:
        sums = node.op is broadcast_to and d_x is not None
        if sums and largest_finite(d_x) <= NEGLIGIBLE * largest_finite(d_y) > 0:
            vanished.add(onward.gates)

    chosen = choose_gates(subgraph, gates)
    arrived = carry(subgraph, chosen, g.astype(float), note_sums, exact=True)[leaf]
    exact = {row: _sum(shares, leaf) for row, shares in by_row(arrived).items()}
    return exact, vanished


def by_row(arrived: dict[Key, Any]) -> dict[Row, list]:
    """The gradients that ``carry`` brings to a target, by row; None where cut."""
    rows = defaultdict(list)
    some_around = len({key.normalized for key in arrived}) == 2
    for key, gradient in arrived.items():
        rows[Row(some_around and not key.normalized, key.gates)].append(gradient)
    return rows


def _sum(gradients: Iterable, leaf: Tensor) -> np.ndarray:
    """The sum of gradients of ``leaf``, where None counts as 0."""
    with np.errstate(all="ignore"):
        alive = (d for d in gradients if d is not None)
        return sum(alive, np.zeros(leaf.shape, leaf.dtype))


def refuse_unexplainable(function: str, leaf: Any) -> None:
    """Raise if there is no gradient of ``leaf`` to explain."""
    if not isinstance(leaf, Tensor) or not leaf.requires_grad:
        raise ValueError(
            f"{function}(y, leaf): the leaf must be a tensor that requires a gradient, "
            f"but {describe(leaf)} was received. {_leaf_to_pass(leaf)}"
        )


def _leaf_to_pass(received: Any) -> str:
    """What to pass as the leaf, for somebody who passed something else."""
    if isinstance(received, Tensor | np.ndarray):
        return "Make it one, with requires_grad=True, before computing y."
    if isinstance(received, Module):
        names = [name for name, _ in received.named_parameters()]
        if not names:
            return "It has no parameters; pass one of another module."
        return f"Pass one of its parameters, such as {names[0]}."
    if received is None:
        return "The layer has no such parameter; pass another one."
    return "Pass a parameter of the model itself, such as model[0].weight."


def refuse_unrecorded(function: str, y: Any) -> None:
    """Raise if there is no graph behind ``y``, and suggest why."""
    if not isinstance(y, Tensor):
        remedy = " Pass what it returns." if isinstance(y, Module) else ""
        raise TypeError(
            f"{function}: the output must be a tensor, but {describe(y)} was "
            f"received.{remedy}"
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


# --- Carrying cotangents --------------------------------------------------------------


def carry(
    subgraph: Subgraph,
    gates: Gates,
    g: np.ndarray,
    observe: Callable | None = None,
    start: Tensor | None = None,
    exact: bool = False,
) -> dict[Tensor, dict[Key, np.ndarray | None]]:
    """Run a backward pass with one cotangent per key, which is None for cut routes.

    The pass starts with ``g`` at ``start``, by default the output. It returns the
    gradients that arrive at each target, by key. ``observe(node, x, key, onward, d_y,
    d_x)``, if given, is called for every step from ``node`` to ``x``; ``key`` is that
    of ``d_y``, and ``onward`` that of ``d_x``. In an ``exact`` pass, which requires
    float64, a sum over broadcast axes that is only rounding compared with its terms is
    carried on as 0.
    """
    y, targets = subgraph.y if start is None else start, subgraph.targets
    carried: dict[Tensor, dict] = {y: {Key(normalized=y in gates.calls): g}}
    with np.errstate(all="ignore"):
        for node in subgraph.steps:
            arrived = carried.get(node, {})
            if node not in targets:
                carried.pop(node, None)
            for key, d_y in arrived.items():
                for x, d_x in subgraph.apply_pullbacks(node, d_y):
                    onward = gates.onward(key, node, x, cut=d_x is None)
                    if exact and node.op is broadcast_to and d_x is not None:
                        # One sum in float64 loses far less than 1e-12 of its terms.
                        terms = sum_to(np.abs(d_y), shape=x.shape)
                        d_x = without_rounding(d_x, d_x, 1e-3 * terms)
                    at_x = carried.setdefault(x, {})
                    before = at_x.get(onward)
                    at_x[onward] = d_x if before is None else before + d_x
                    if observe is not None:
                        observe(node, x, key, onward, d_y, d_x)
    return {x: carried.get(x, {}) for x in targets}

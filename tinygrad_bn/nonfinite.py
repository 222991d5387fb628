"""Where NaN and infinity come from: the first operation that produces one.

A fused operation may hide them. If the variance of batch norm overflows, x_hat is 0 and
so is its gradient: everything is finite, and nothing learns. So the search looks into
what a fused operation saved, and names the operation of its definition.

This file comes after ``routes.py`` in the reading order.

Left out on purpose: an exception for intended infinities, such as those of a mask.
"""

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import errors
from .backward import Fused, initial_cotangent, refuse_changed_leaves
from .errors import describe
from .routes import refuse_unrecorded
from .scopes import Scope, enclosing, module_calls
from .tape import tape
from .tensor import Tensor

LONGEST_ROUTE = 8


@dataclass(frozen=True, eq=False, repr=False)
class NonFinite:
    """The first operation that produces NaN or infinity; false if there is none.

    ``direction`` is ``"forward"`` if its output is not finite, ``"backward"`` if the
    gradient of one of its inputs is not. If it is fused, ``part`` is the operation of
    its definition that is responsible. ``ranges`` lists the arrays involved, each with
    the range of its values. ``route`` leads from the loss to the operation, whose
    output is ``node``.
    """

    direction: str = ""
    operation: str = ""
    module: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    route: tuple[str, ...] = ()
    node: Tensor | None = None
    part: str = ""

    def __bool__(self) -> bool:
        return bool(self.direction)

    def __str__(self) -> str:
        if not self:
            return "all finite"
        what = {
            "forward": "the first whose output is not finite",
            "backward": "the first that passes on a gradient that is not finite",
        }[self.direction]
        where = f" in {self.module}" if self.module else ""
        route = list(self.route)
        if len(route) > LONGEST_ROUTE:
            half = LONGEST_ROUTE // 2
            route[half:-half] = ["..."]
        rows = [*self.ranges, ("route", " -> ".join(route))]
        width = max(len(label) for label, _ in rows)
        who = f"{self.part} inside {self.operation}" if self.part else self.operation
        lines = [f"{self.direction}: {who}{where} is {what}"]
        return "\n".join(
            [*lines, *(f"  {label:<{width}}  {text}" for label, text in rows)]
        )

    __repr__ = __str__


class _Found(NamedTuple):
    """The ``node`` of the operation to blame, itself ``recorded`` or inside of that."""

    recorded: Any
    node: Any
    arrays: list[tuple[str, np.ndarray]]


@np.errstate(all="ignore")
def find_nonfinite(loss: Tensor, gradient: Any = None) -> NonFinite:
    """Find the first operation that produces NaN or infinity.

    The search goes through the forward pass, then through the backward pass.
    ``gradient`` is the initial cotangent, shaped like ``loss``; it is optional if
    ``loss`` has one element. The result is false if everything is finite.

    Raises: ``ValueError`` for a ``loss`` without history and for a missing or misshapen
    ``gradient``; ``TypeError`` for a ``loss`` that is not a tensor; ``RuntimeError`` if
    a leaf has changed since it was used.
    """
    refuse_unrecorded("find_nonfinite", loss)
    g = initial_cotangent(loss, gradient)
    if found := _search_forward(loss):
        return _report("forward", loss, found)
    if found := _search_backward(loss, g):
        return _report("backward", loss, found)
    return NonFinite()


def _search_forward(y: Any, boundary: Collection[Any] = frozenset()) -> _Found | None:
    """The first operation after the ``boundary`` whose output is not finite."""
    node: Any
    for node in reversed(tape(y, boundary, through_cuts=True)):
        refuse_changed_leaves(node)
        if not _finite(node.data):
            itself = _Found(node, node, [("output", node.data)])
            return _inside(node, _search_forward) or itself
        if not _finite(node.saved) and (found := _inside(node, _search_forward)):
            return found
    return None


def _search_backward(
    y: Any, g: np.ndarray, boundary: Collection[Any] = frozenset()
) -> _Found | None:
    """The first operation that passes on a gradient that is not finite."""
    cotangents: dict[Any, np.ndarray] = {y: g}
    node: Any
    for node in tape(y, boundary):
        if node not in cotangents:
            continue
        g = cotangents.pop(node)
        needs = [isinstance(x, Tensor) and x.requires_grad for x in node.inputs]
        for x, d_x in node.op.apply_pullbacks(g, node, needs):
            if np.shape(d_x) != x.shape:
                raise errors.pullback_misshapen(node, x, d_x)
            cotangents[x] = cotangents[x] + d_x if x in cotangents else d_x
            if not _finite(cotangents[x]):
                gradients = [
                    (f"gradient of {describe(x, node.scope)}", cotangents[x]),
                    ("gradient of the output", g),
                    ("output", node.data),
                ]
                itself = _Found(node, node, gradients)
                return _inside(node, _search_backward, g) or itself
    return None


def _inside(node: Any, search: Callable[..., Any], *g: np.ndarray) -> _Found | None:
    """What a search finds in the definition of ``node``, if it is fused."""
    if not isinstance(node.op, Fused):
        return None
    inputs = {x for x in node.inputs if isinstance(x, Tensor)}
    found = search(node.op.unfold(node), *g, inputs)
    return found and found._replace(recorded=node)


def _finite(values: Any) -> bool:
    """Whether all numbers are finite in an array, or in the arrays of a tuple."""
    if isinstance(values, tuple):
        return all(map(_finite, values))
    is_array = isinstance(values, np.ndarray | np.generic) and values.dtype.kind == "f"
    return not is_array or bool(np.isfinite(values).all())


def _report(direction: str, loss: Tensor, found: _Found) -> NonFinite:
    recorded, node, arrays = found
    inputs = [
        (f"input {describe(x, node.scope)}", x.data)
        for x in node.inputs
        if isinstance(x, Tensor)
    ]
    return NonFinite(
        direction,
        recorded.op.name,
        _called(next(module_calls(node.scope), None)),
        tuple((label, _range(data)) for label, data in [*arrays, *inputs]),
        _route(loss, recorded),
        recorded,
        "" if node is recorded else node.op.name,
    )


def _route(loss: Tensor, node: Any) -> tuple[str, ...]:
    """A route from the loss to ``node``, as the names of the places that it passes."""
    users: dict[Any, Any] = {}
    for user in tape(loss, through_cuts=True):
        for x in user.inputs:
            if isinstance(x, Tensor):
                users.setdefault(x, user)
    route = [node]
    while route[-1] is not loss:
        route.append(users[route[-1]])
    places = map(_place, reversed(route))
    return tuple(place for place, _ in itertools.groupby(places))


def _place(t: Any) -> str:
    """The module in which ``t`` was computed, or its name, composite or operation."""
    modules = [call.name for call in module_calls(t.scope) if call.name]
    calls = list(enclosing(t.scope))
    outermost = calls[-1].name if calls else ""
    return next(iter(modules), t.name or outermost or t.op.name)


def _called(call: Scope | None) -> str:
    """The qualified name and class of a module, or "" outside of modules."""
    if call is None:
        return ""
    kind = type(call.owner).__name__
    return f"module `{call.name}` ({kind})" if call.name else kind


def _range(values: np.ndarray) -> str:
    """Where the values lie, and how many of them are not finite."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    lies = f"from {low:.4g} to {high:.4g}" if low < high else f"{low:.4g}"
    if finite.size == values.size:
        return lies if values.size else "empty"
    counts = {
        "nan": np.isnan(values),
        "inf": values == np.inf,
        "-inf": values == -np.inf,
    }
    parts = [f"{n} {name}" for name, found in counts.items() if (n := int(found.sum()))]
    others = f", the others {lies}" if finite.size else ""
    return f"{' and '.join(parts)} of {values.size}{others}"

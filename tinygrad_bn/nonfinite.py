"""Where nan and infinity come from: the first operation that produces one.

This file comes after ``routes.py`` in the reading order.

Left out on purpose: an exception for intended infinities, such as those of a mask.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backward import initial_cotangent, refuse_changed_leaves, tape
from .errors import describe
from .routes import refuse_unrecorded
from .scopes import Scope, enclosing
from .tensor import Tensor

LONGEST_ROUTE = 8


@dataclass(frozen=True, eq=False, repr=False)
class NonFinite:
    """The first operation that produces nan or infinity; false if there is none.

    ``direction`` is ``"forward"`` if its output is not finite, ``"backward"`` if the
    gradient of one of its inputs is not. ``ranges`` lists the arrays involved, each
    with the range of its values. ``route`` leads from the loss to the operation, whose
    output is ``node``.
    """

    direction: str = ""
    operation: str = ""
    module: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    route: tuple[str, ...] = ()
    node: Tensor | None = None

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
        lines = [f"{self.direction}: {self.operation}{where} is {what}"]
        return "\n".join(
            [*lines, *(f"  {label:<{width}}  {text}" for label, text in rows)]
        )

    __repr__ = __str__


@np.errstate(all="ignore")
def find_nonfinite(loss: Tensor, gradient: Any = None) -> NonFinite:
    """Find the first operation that produces nan or infinity.

    The search goes through the forward pass, then through the backward pass.
    ``gradient`` is the initial cotangent, shaped like ``loss``; it is optional if
    ``loss`` has one element. The result is false if everything is finite.

    Raises: ``ValueError`` for a ``loss`` without history and for a missing or misshapen
    ``gradient``; ``RuntimeError`` if a leaf has changed since it was used.
    """
    refuse_unrecorded("find_nonfinite", loss)
    cotangents: dict[Any, np.ndarray] = {loss: initial_cotangent(loss, gradient)}
    node: Any
    for node in reversed(tape(loss, through_cuts=True)):
        refuse_changed_leaves(node)
        if not np.isfinite(node.data).all():
            return _report("forward", loss, node, [("output", node.data)])
    for node in tape(loss):
        g = cotangents.pop(node, None)
        if g is None:
            continue
        needs = [isinstance(x, Tensor) and x.requires_grad for x in node.inputs]
        for x, d_x in node.op.apply_pullbacks(g, node, needs):
            cotangents[x] = cotangents[x] + d_x if x in cotangents else d_x
            if not np.isfinite(cotangents[x]).all():
                gradients = [
                    (f"gradient of {describe(x, node.scope)}", cotangents[x]),
                    ("gradient of the output", g),
                    ("output", node.data),
                ]
                return _report("backward", loss, node, gradients)
    return NonFinite()


def _report(direction: str, loss: Tensor, node: Any, values: list) -> NonFinite:
    inputs = [
        (f"input {describe(x, node.scope)}", x.data)
        for x in node.inputs
        if isinstance(x, Tensor)
    ]
    module = next(
        (call for call in enclosing(node.scope) if call.owner is not None), None
    )
    return NonFinite(
        direction,
        node.op.name,
        _called(module),
        tuple((label, _range(data)) for label, data in [*values, *inputs]),
        _route(loss, node),
        node,
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
    calls = list(enclosing(t.scope))
    modules = [call.name for call in calls if call.owner is not None and call.name]
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

"""Routes as chains: each route from the loss to a leaf has its own lines.

This file comes after ``compose.py`` in the reading order.

Left out on purpose: the values of the tensors on a route, which ``draw`` shows.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backward import initial_cotangent
from ..explanation import Explanation, Route
from ..gates import Gates, Key, choose_gates
from ..graph import Subgraph
from ..kernels import norm
from ..routes import explain
from ..scopes import Scope
from ..tensor import Tensor
from .boxes import column_heads, frame_title, route_text
from .compose import fitting_places
from .flow import Flow
from .places import Options, Place, Places, Rest
from .scene import AROUND, DIRECT, Box, Chain, Frame, Link, Row, Scene, Sheet, typeset


def compose_chains(
    y: Tensor, leaf: Tensor, gates: Iterable[str] | None, gradient: Any
) -> Scene:
    """A scene of one box: a chain for each route, with what it contributes."""
    names = gates if gates is None or isinstance(gates, str) else list(gates)
    explanation = explain(y, leaf, gradient, names)
    flow = Flow(y, initial_cotangent(y, gradient))
    flow.find_routes_to(leaf, names)
    places = fitting_places(flow, Options(leaf, max_nodes=20), names)
    subgraph = Subgraph(flow.graph, leaf)
    chosen = choose_gates(subgraph, names)
    columns = explanation.columns()
    chains = [
        Chain(
            _row(explanation, route, columns),
            _links(places, flow.gates, _passed(subgraph, chosen, route))
            if route.merged == 1
            else [],
        )
        for route in explanation
    ]
    of = f"∂{typeset(y.name or 'L')}/∂{typeset(explanation.leaf_name)}"
    total = Row("", of, *_entries(explanation.shown_total, columns))
    sheet = Sheet(chains, total, column_heads(columns, leaf))
    return Scene([Box(0, "output", "", sheet=sheet)], [], Frame("", boxes=[0]))


def _row(explanation: Explanation, route: Route, columns: list) -> Row:
    direct = AROUND if route.around else DIRECT
    group = route.gates[0] if route.gates else direct
    label = ", then ".join(map(typeset, route.gates))
    label = f"via {label}" if label else route_text(group)
    label = str(route) if route.merged > 1 else label
    if route.cut:
        return Row(group, label, None)
    return Row(group, label, *_entries(route.shown, columns))


def _entries(g: np.ndarray, columns: list) -> tuple[list[float], float | None]:
    entries = [float(g[index]) for index in columns]
    return entries, norm(g) if len(columns) < g.size else None


def _passed(subgraph: Subgraph, gates: Gates, route: Route) -> list[Tensor]:
    """The tensors that every path of a route passes, from the loss to the leaf.

    Such a tensor has as many paths through it as there are in all.
    """
    (leaf,) = subgraph.targets

    def onward(node: Tensor, key: Key) -> Iterable[tuple[Tensor, Key]]:
        for x, cut in subgraph.steps[node].items():
            yield x, gates.onward(key, node, x, cut)

    before: dict[Tensor, dict[Key, int]] = defaultdict(lambda: defaultdict(int))
    before[subgraph.y][Key()] = 1
    for node in subgraph.steps:
        for key, count in before[node].items():
            for x, following in onward(node, key):
                before[x][following] += count
    after: dict[Tensor, dict[Key, int]] = defaultdict(lambda: defaultdict(int))
    for key in before[leaf]:
        around = bool(gates.calls) and not key.normalized
        after[leaf][key] = int((key.gates, around) == (route.gates, route.around))
    for node in reversed(subgraph.steps):
        for key in before[node]:
            after[node][key] = sum(after[x][k] for x, k in onward(node, key))
    every = sum(after[subgraph.y].values())
    paths = {t: sum(n * after[t][k] for k, n in before[t].items()) for t in before}
    return [t for t in (*subgraph.steps, leaf) if paths[t] == every]


def _links(
    places: Places, gates: dict[Tensor, str], passed: list[Tensor]
) -> list[Link]:
    """A link for each box that every path of a route passes."""
    # The tensor of each box that is nearest to the loss.
    first: dict[Place, Tensor] = {}
    for t in passed:
        place = places.of[t]
        if place is t or not isinstance(place, Tensor):
            first.setdefault(place, t)
    order = [*first]
    steps = zip(order, [*first.values()][1:])
    factors = ["", *(_factor(places, above, x) for above, x in steps)]
    return [
        Link(factor, _title(places, place), _kind(places, gates, place))
        for factor, place in zip(factors, order)
    ]


def _factor(places: Places, above: Place, x: Tensor) -> str:
    """What multiplies the gradient on its way through a box to ``x``, or dots."""
    uses = [use for use in places.users[x] if places.of[use[0]] is above]
    factor = places.factor(*uses[0]) if len(uses) == 1 else ""
    return factor or "…"


def _title(places: Places, place: Place) -> str:
    if isinstance(place, Rest):
        return place.title()
    if isinstance(place, Scope):
        return frame_title(place)[0]
    name = places.graph.name(place)
    if name is None:
        name = "leaf" if place.op is None else places.formulas.texts[place].text
    return typeset(name).replace("\n", " ")


def _kind(places: Places, gates: dict[Tensor, str], place: Place) -> str:
    if isinstance(place, Tensor):
        return "leaf" if place is places.leaf else gates.get(place, "")
    return ""

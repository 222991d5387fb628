"""Routes as chains: each way from the loss to a leaf on a line of its own."""

from collections import defaultdict

from ..routes import Route, Subgraph, Unfolded, explain
from ..tensor import Tensor
from .flow import entries
from .places import Places
from .scene import DIRECT, Box, Chain, Frame, Scene, Sheet, typeset


def compose_chains(y: Tensor, leaf: Tensor, gates, gradient) -> Scene:
    """A scene of one box: a chain per route, with what arrives by it at ``leaf``."""
    routes = explain(y, leaf, gradient, gates)
    graph = Unfolded(y)
    subgraph = Subgraph(graph, leaf)
    names = subgraph.gates(gates).names
    places = Places(graph, leaf, names, set(), max_nodes=len(graph.order) * 3)
    chains = [
        Chain(
            str(route),
            route.gates[0] if route.gates else DIRECT,
            _links(places, subgraph, names, route),
            entries(route.shown),
            route.cut,
        )
        for route in routes
    ]
    of = f"∂{typeset(y.name or 'L')}/∂{typeset(graph.name(leaf) or 'leaf')}"
    sheet = Sheet(chains, entries(routes.shown_total), 0.0, of)
    return Scene([Box(0, "output", "", sheet=sheet)], [], Frame("", boxes=[0]))


def _links(
    places: Places, subgraph: Subgraph, names: dict, route: Route
) -> list[tuple]:
    """``(factor, title, group)`` for each box that every way along ``route`` passes."""
    passed = [t for t in _passed(subgraph, names, route.gates) if places.of.get(t) is t]
    links, before = [], None
    for t in passed:
        kind = names.get(t, "leaf" if t is places.leaf else "")
        factor = "" if before is None else _factor(places, before, t)
        links.append((factor, _title(places, t), kind))
        before = t
    return links


def _passed(subgraph: Subgraph, names: dict, gates: tuple[str, ...]) -> list[Tensor]:
    """The tensors on every way that passes exactly these gates, in order."""
    (leaf,) = subgraph.targets
    from_y, to_leaf = defaultdict(int), defaultdict(int)
    from_y[subgraph.y, 0] = 1
    states = [(node, i) for node in subgraph.steps for i in range(len(gates) + 1)]

    def onward(node, i):
        for x in subgraph.steps[node]:
            if x not in names:
                yield x, i
            elif i < len(gates) and names[x] == gates[i]:
                yield x, i + 1

    for state in states:
        for following in onward(*state) if from_y[state] else ():
            from_y[following] += from_y[state]
    to_leaf[leaf, len(gates)] = 1
    for state in reversed(states):
        to_leaf[state] = sum(to_leaf[following] for following in onward(*state))
    every = to_leaf[subgraph.y, 0]
    on_all = {t for (t, i), n in from_y.items() if n * to_leaf[t, i] == every}
    return [t for t in subgraph.steps if t in on_all] + [leaf]


def _factor(places: Places, above: Tensor, below: Tensor) -> str:
    """What the gradient is multiplied by between two boxes, if there is one way."""
    ways = [
        (node, slot) for node, slot in places.users[below] if places.of[node] is above
    ]
    return places.factor(*ways[0]) if len(ways) == 1 else "…"


def _title(places: Places, t: Tensor) -> str:
    name = places.graph.name(t)
    if name is not None:
        return typeset(name)
    return "leaf" if t.op is None else places.formulas.texts[t][0]

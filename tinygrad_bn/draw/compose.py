"""From the tape to a scene: the boxes, and what flows back between them.

With a leaf, a scene shows by which routes the gradient reaches that leaf: unnamed
operations with one consumer are absorbed into its formula. Without one, every operation
is a box, and calls of modules and composites are folded unless they are opened.

This file comes after ``boxes.py`` in the reading order; ``chains.py`` is next.

Left out on purpose: loops. A module that is called three times has three boxes.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

from ..backward import Fused, initial_cotangent
from ..gates import batch_norm_around
from ..graph import Unfolded
from ..scopes import Scope, enclosing
from ..tensor import Tensor
from .boxes import Boxes, frame_title
from .flow import Flow, Shares, add_to
from .places import Options, Place, Places, Rest, call_name, is_container, scopes
from .scene import Arrow, Frame, Scene, Stream, values_text

MANY_STREAMS = 4


def compose(
    y: Tensor,
    gates: Iterable[str] | None,
    gradient: Any,
    options: Options,
    tiles: bool,
    symbols: dict[str, Any] | None,
) -> Scene:
    """The scene of the graph behind ``y``, with the routes to the leaf, if any."""
    leaf = options.leaf
    wants_gradient = leaf is not None or gradient is not None or y.size == 1
    flow = Flow(y, initial_cotangent(y, gradient) if wants_gradient else None, symbols)
    _refuse_unknown(options.opened, flow.graph)
    if leaf is not None:
        flow.find_routes_to(leaf, gates)
    return _Composer(fitting_places(flow, options, gates), flow, tiles).scene()


def _refuse_unknown(opened: frozenset[str], graph: Unfolded) -> None:
    known = {call_name(call) for t in graph.order for call in scopes(t)}
    known |= {t.op.name for t in graph.order if isinstance(t.op, Fused)}
    if unknown := opened - known:
        raise ValueError(
            "draw(open=): modules, composites or fused operations of the graph must be "
            f"named, but {sorted(unknown)} is not among {sorted(known)}."
        )


def fitting_places(flow: Flow, options: Options, gates: Iterable[str] | None) -> Places:
    """The places of a graph, folded until the boxes are few enough."""
    if options.leaf is not None:
        return _places_toward(options.leaf, flow, options, gates)
    places = Places(flow.graph, options)
    if places.boxes() > options.max_nodes > 1:
        places.fold_all_but(places.newest(options.max_nodes, _opened(places)))
    return places


def _places_toward(
    leaf: Tensor, flow: Flow, options: Options, gates: Iterable[str] | None
) -> Places:
    """The places of a graph that show the routes to ``leaf``.

    If there is room, they open all batch norms next to the leaf, and everything else
    that separates its routes or uses it; otherwise one of these batch norms, or none.
    """
    graph = flow.graph
    near = flow.near(leaf) if gates is None else []
    separating = {t for t in flow.gates if gates or batch_norm_around(t) is None}
    # The box of a fused operation explains what it does with the leaf. Open others.
    users = {node for node, _ in Places(graph, options).users[leaf]}
    named = separating | users - set(graph.within)
    ends = {leaf, graph.y}
    for calls, inner in ((near, named), (near[:1], named), (near[:1], ()), ((), ())):
        places = Places(graph, options, calls, inner)
        if places.boxes() <= options.max_nodes or options.max_nodes == 1:
            return places
        shown = {*ends, *users, *inner} & places.of.keys()
        visible = {places.of[t] for t in shown} | _opened(places)
        for t in graph.order:
            if any(call in (calls or near) for call in scopes(t)):
                visible.add(places.of[t])
        places.fold_all_but(visible)
        if places.boxes() <= options.max_nodes:
            return places
    places = Places(graph, options)
    visible = {places.of[t] for t in ends & places.of.keys()}
    places.fold_all_but(places.newest(options.max_nodes - 1, visible))
    return places


def _opened(places: Places) -> set[Place]:
    """The places inside the calls that the user opened."""
    return {p for p in places.order if not places.asked.isdisjoint(_around(p))}


def _around(place: Place) -> list[Scope]:
    if isinstance(place, Scope):
        return list(enclosing(place))
    return list(scopes(place)) if isinstance(place, Tensor) else []


def _joined(shares: Shares) -> Shares:
    """The shares, with those through the E[x] (or Var[x]) of all modules added up."""
    names = defaultdict(list)
    for group in shares:
        names[group.rpartition(".")[2]].append(group)
    total: Shares = {}
    for last, groups in names.items():
        for group in groups:
            add_to(total, group if len(groups) == 1 else last, shares[group])
    return total


def _merged(several: list[list[Stream]]) -> list[Stream]:
    """One stream per group for several tensors that pass between two boxes."""
    largest: dict[str, Stream] = {}
    for stream in chain.from_iterable(several):
        before = largest.get(stream.group)
        if before is None or before.cut or stream.norm > before.norm:
            largest[stream.group] = stream
            stream.amount = stream.factor = ""
    return list(largest.values())


class _Composer:
    """Makes a scene: the boxes, the arrows between them, the frames around them."""

    def __init__(self, places: Places, flow: Flow, tiles: bool):
        self.places, self.flow = places, flow
        self.graph, self.leaf = places.graph, places.leaf
        self.boxes = Boxes(places, flow, tiles)
        self.keys = self._numbered()
        # The arrows in an open batch norm show its routes even without a leaf.
        self.opened: set[Scope] = set()
        if self.leaf is None:
            shown = [t for t in flow.calls if places.shows(t) and places.as_formula(t)]
            flow.gates = {t: str(t.qualified_name()) for t in shown}
            self.opened = {flow.calls[t] for t in shown}

    def _numbered(self) -> dict[Place, int]:
        """The number of each place; arrows lead from lower to higher numbers."""
        of, y = self.places.of, self.graph.y
        if self.places.options.max_nodes == 1:
            return {of[y] if self.leaf is None else self.leaf: 0}
        leaves: dict[Place, dict[Place, None]] = defaultdict(dict)
        for t in reversed(self.graph.order):
            for x in self.graph.inputs(t):
                if isinstance(x, Tensor) and of[x] is x and x.op is None:
                    leaves[of[t]][x] = None
        keys: dict[Place, int] = {}
        for place in self.places.order:
            for x in (*leaves[place], place):
                keys.setdefault(x, len(keys))
        return keys

    def scene(self) -> Scene:
        boxes = [
            self.boxes.box(place, key, bool(self._calls_around(place)))
            for place, key in self.keys.items()
        ]
        return Scene(boxes, self._arrows(), self._frames())

    # --- Arrows -----------------------------------------------------------------------

    def _arrows(self) -> list[Arrow]:
        uses = defaultdict(list)
        for node in reversed(self.graph.order):
            for slot, x in enumerate(self.graph.inputs(node)):
                if not isinstance(x, Tensor):
                    continue
                tail, head = self.places.of[x], self.places.of[node]
                if tail is head or not {tail, head} <= self.keys.keys():
                    continue
                if x.op is None and tail is not x:
                    continue  # a parameter of a module that is called again
                # Between operations, each use has its own arrow (a * a has two). Into
                # or out of a folded call or a fused operation, one arrow is enough.
                whole = isinstance(tail, Tensor) and isinstance(head, Tensor)
                whole = whole and not self._is_inside_fused(node)
                arrow = (tail, head, node, slot) if whole else (tail, head)
                uses[arrow].append((node, slot))
        between = defaultdict(list)
        for (tail, head, *_), steps in uses.items():
            between[self.keys[tail], self.keys[head]].append(steps)
        return [
            arrow
            for ends, several in between.items()
            for arrow in self._arrows_between(*ends, several)
        ]

    def _arrows_between(self, tail: int, head: int, several: list[list]) -> list[Arrow]:
        """An arrow for each use, or a single one if they have many streams."""
        arrows = [Arrow(tail, head, self._streams(steps)) for steps in several]
        if len(several) > 1 and sum(len(a.streams) for a in arrows) > MANY_STREAMS:
            return [Arrow(tail, head, self._streams([*chain.from_iterable(several)]))]
        return arrows

    def _is_inside_fused(self, node: Tensor) -> bool:
        outer = self.graph.within.get(node)
        return outer is not None and not self.places.definition_is_open(outer)

    def _streams(self, uses: list[tuple[Tensor, int]]) -> list[Stream]:
        """The gradients that go back by these uses, one stream per group of routes."""
        by_input: dict[Tensor, list[tuple[Tensor, int]]] = defaultdict(list)
        for node, slot in uses:
            by_input[self.graph.inputs(node)[slot]].append((node, slot))
        several = [self._streams_to(x, some) for x, some in by_input.items()]
        return _merged(several) if len(several) > 1 else several[0]

    def _streams_to(self, x: Tensor, uses: list[tuple[Tensor, int]]) -> list[Stream]:
        shares = _joined(self.flow.shares(uses, self.opened))
        labeled = self._is_labeled(x, uses, len(shares))
        factor = self.places.factor(*uses[0]) if labeled and len(uses) == 1 else ""
        streams = []
        for group, d in shares.items():
            if d is None:
                streams.append(Stream(group, 0.0, cut=True))
                continue
            g = self.flow.shown(d, shares.values())
            if g.any() or x is self.leaf:
                stream = Stream(group, self.flow.relative_norm(g))
                stream.cancels = self.flow.sums_to_zero(d)
                stream.tooltip = f"{group}: {values_text(g)}"
                stream.amount = self.flow.in_words(g) if labeled else ""
                stream.factor = factor
                streams.append(stream)
        return streams

    def _is_labeled(self, x: Tensor, uses: list, groups: int) -> bool:
        """Whether the streams to ``x`` are on routes and have room for text."""
        if not any(self.flow.step(*use) in self.flow.toward_leaf for use in uses):
            return False
        if isinstance(self.places.of[uses[0][0]], Rest) and groups > 1:
            return False
        users = {self.places.of[node] for node, _ in self.places.users[x]}
        return x is not self.leaf or len(users) <= 2

    # --- Frames -----------------------------------------------------------------------

    def _frames(self) -> Frame:
        top, frames = Frame(""), {}
        inside = defaultdict(set)
        for place in self.keys:
            for call in self._calls_around(place):
                inside[call].add(place)
        for place, key in self.keys.items():
            frame = top
            for call in reversed(self._calls_around(place)):
                if self._is_framed(call, inside[call]):
                    if call not in frames:
                        frames[call] = Frame(*frame_title(call))
                        frame.frames.append(frames[call])
                    frame = frames[call]
            frame.boxes.append(key)
        return top

    def _calls_around(self, place: Place) -> list[Scope]:
        """The open calls around a box, innermost first.

        Parameters are drawn with the one operation that uses them.
        """
        if isinstance(place, Rest):
            return []
        if isinstance(place, Scope):
            return list(enclosing(place.parent))
        if place.op is not None:
            if place in self.graph.definitions and self.places.definition_is_open(
                place
            ):
                place = self.graph.definitions[place]
            return list(scopes(place))
        users = [node for node, _ in self.places.users[place]]
        if not place.requires_grad or place is self.leaf or len(users) > 1:
            return []
        user = self.places.of[users[0]]
        return self._calls_around(user) if user is not place else []

    def _is_framed(self, call: Scope, boxes: set[Place]) -> bool:
        if len(boxes) < 3:
            return False
        if call in self.places.asked:
            return True
        if call.owner is not None:
            return not is_container(call.owner)
        around = None if call.parent is None else call.parent.owner
        return around is None or is_container(around)

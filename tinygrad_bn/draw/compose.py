"""From the tape to a scene: the boxes, and what flows back between them.

With a leaf, a scene tells by which routes the gradient reaches that leaf: unnamed
operations with one consumer are absorbed into its formula. Without one, every operation
is a box, and calls of modules and composites are folded unless they are opened.
"""

from collections import defaultdict
from functools import cached_property

import numpy as np

from ..backward import Fused, initial_cotangent
from ..explanation import MANY
from ..routes import Subgraph, Unfolded, explain
from ..scopes import Scope
from ..tensor import Tensor
from .flow import OTHERS, Flow, entries, rounding
from .places import (
    REST,
    Places,
    call_name,
    is_container,
    is_tensor,
    opens,
    outward,
    scopes,
)
from .scene import (
    DIRECT,
    Arrow,
    Bar,
    Box,
    Frame,
    Ledger,
    Scene,
    Stream,
    Tiles,
    number,
    shape_text,
    typeset,
)


def compose(
    y: Tensor, leaf, gates, gradient, opened, max_nodes: int, tiles: bool, symbols
) -> Scene:
    """The scene of the graph behind ``y``, with the routes to ``leaf`` if one is
    given."""
    opened = {opened} if isinstance(opened, str) else set(opened)
    wants_gradient = leaf is not None or gradient is not None or y.size == 1
    g = initial_cotangent(y, gradient) if wants_gradient else None
    if leaf is None:
        graph = Unfolded(y, lambda t: opens(t, opened))
        flow = Flow(graph, g, symbols)
    else:
        graph = Unfolded(y)
        flow = Flow(graph, g, symbols)
        subgraph = Subgraph(graph, leaf)
        flow.tell_routes_to(leaf, subgraph.gates(gates), subgraph)
    _refuse_unknown(opened, graph)
    places = Places(graph, leaf, flow.gates, opened, max_nodes)
    if leaf is None and g is not None:
        for call in places.opened_calls:
            flow.tell_routes_inside(call)
    return _Composer(places, flow, tiles).scene()


def _refuse_unknown(opened: set[str], graph: Unfolded) -> None:
    known = {call_name(call) for t in graph.order for call in scopes(t)}
    known |= {t.op.name for t in graph.order if isinstance(t.op, Fused)}
    if unknown := opened - known:
        raise ValueError(
            "draw(open=): modules, composites or fused operations of the graph must be "
            f"named, but {sorted(unknown)} is not among {sorted(known)}."
        )


class _Composer:
    def __init__(self, places: Places, flow: Flow, tiles: bool):
        self.places, self.flow, self.tiles_wanted = places, flow, tiles
        self.graph, self.leaf, self.formulas = (
            places.graph,
            places.leaf,
            places.formulas,
        )
        self.members: dict[object, dict[Tensor, None]] = defaultdict(dict)
        self.keys: dict[object, int] = {}
        for t in reversed(self.graph.order):
            for x in filter(is_tensor, self.graph.inputs(t)):
                self._number(x)
            self._number(t)
        if places.max_nodes == 1:
            self.keys = {self.graph.y if self.leaf is None else self.leaf: 0}

    def _number(self, t: Tensor) -> None:
        place = self.places.of[t]
        self.keys.setdefault(place, len(self.keys))
        self.members[place][t] = None

    def scene(self) -> Scene:
        boxes = [self._box(place) for place in self.keys]
        return Scene(boxes, self._arrows(), self._frames())

    # --- Boxes ------------------------------------------------------------------------

    def _box(self, place) -> Box:
        if place is REST:
            note = f"{self.places.hidden} operations folded"
            return Box(self.keys[place], "rest", "…", note=note, bars=self._bars(place))
        if isinstance(place, Scope):
            return self._call_box(place)
        return self._leaf_box(place) if place.op is None else self._operation_box(place)

    def _leaf_box(self, t: Tensor) -> Box:
        unnamed = "leaf" if t.requires_grad else "constant"
        name = self.graph.name(t)
        name = unnamed if name is None else typeset(name)
        name = name.rpartition(".")[2] if self._around(t) else name
        box = Box(self.keys[t], "leaf" if t.requires_grad else "data", name)
        box.note, box.tooltip = (
            shape_text(t.shape),
            _tooltip(t.data, self._value_residue),
        )
        if t.requires_grad and self.leaf is not None:
            box.ledger = self._ledger(t)
        else:
            self._tell_values(box, t)
        return box

    def _operation_box(self, t: Tensor) -> Box:
        box = Box(self.keys[t], "output" if t is self.graph.y else "op", "")
        box.note, box.tooltip = (
            shape_text(t.shape),
            _tooltip(t.data, self._value_residue),
        )
        box.group = self.flow.gates.get(t, "")
        name, formula = t.name and typeset(t.name), self.formulas.texts[t][0]
        if self.places.as_formula(t):
            box.title, box.formula = (name, formula) if name else (formula, "")
        else:
            box.title = name or ""
            box.operation = _operation(self.graph.definitions.get(t, t))
        self._tell_values(box, t)
        return box

    def _call_box(self, call: Scope) -> Box:
        outputs = [t for t in self.members[call] if t.op and self._is_output(t)]
        last = outputs[-1]
        box = Box(
            self.keys[call],
            "op",
            call.name,
            tooltip=_tooltip(last.data, self._value_residue),
        )
        if call.owner is not None:
            box.title, box.note = _frame_title(call)
            box.bars = self._bars(call)
            return box
        box.operation, box.title = call.name, ""
        if len(outputs) > 1:
            box.note = f"{len(outputs)} outputs"
            return box
        box.kind = "output" if last is self.graph.y else "op"
        box.title = typeset(last.name) if last.name is not None else ""
        box.note = shape_text(last.shape)
        self._tell_values(box, last)
        return box

    def _is_output(self, t: Tensor) -> bool:
        here = self.places.of[t]
        elsewhere = any(
            self.places.of[user] is not here for user, _ in self.places.users[t]
        )
        return t is self.graph.y or elsewhere

    def _tell_values(self, box: Box, t: Tensor) -> None:
        """Give a box its tiles, or words where the tensor is too large for them."""
        g = self.flow.arrived.get(t)
        small = 0 < t.ndim <= 2 and t.size > 0 and max(t.shape) <= MANY
        if t.ndim == 0:
            box.text = [number(t.item(), 3)]
        elif not self.tiles_wanted:
            told = self.leaf is not None and g is not None and self.flow.sums_to_zero(g)
            box.text = [f"Σ over batch of {self._gradient_of(t)} = 0"] if told else []
        elif t.size == 0:
            box.text = ["empty"]
        elif small:
            box.tiles = self._tiles(t, g)
        else:
            box.text = [_statistics("value", t.data)]
            box.text += [] if g is None else [_statistics("gradient", g)]

    def _tiles(self, t: Tensor, g) -> list[Tiles]:
        values = np.where(np.abs(t.data) <= self._value_residue, 0, t.data)
        tiles = [Tiles("value", np.atleast_2d(values))]
        if g is not None:
            g = np.where(np.abs(g) <= self.flow.residue, 0, g)
            wide = self.leaf is not None and g.ndim == 2 and len(g) > 1
            sums = g.sum(axis=0) if wide else None
            if wide:
                sums = np.where(np.abs(sums) <= self.flow.residue, 0, sums)
            tiles.append(Tiles(self._gradient_of(t), np.atleast_2d(g), sums))
        return tiles

    @cached_property
    def _value_residue(self) -> float:
        """The size up to which a value is what rounding left of others."""
        values = [t.data for t in self.graph.order if t.dtype.kind == "f" and t.size]
        largest = max(
            (np.abs(v[np.isfinite(v)]).max(initial=0) for v in values), default=0
        )
        eps = max((float(np.finfo(v.dtype).eps) for v in values), default=0)
        return 10 * eps * float(largest)

    def _gradient_of(self, t: Tensor) -> str:
        top = "L" if self.graph.y.name is None else typeset(self.graph.y.name)
        name = self.graph.name(t)
        return "gradient" if name is None else f"∂{top}/∂{typeset(name)}"

    # --- Ledgers and bars -------------------------------------------------------------

    def _ledger(self, t: Tensor) -> Ledger:
        total = self.flow.arrived.get(t, np.zeros(t.shape))
        shares = {}
        if t is self.leaf:
            shares = self.flow.shares(self.places.users[t])
            shares = dict.fromkeys(self.flow.cut_groups()) | shares
        order = sorted(shares, key=lambda g: (g != DIRECT, g == OTHERS, g))
        alive = [d for d in [total, *shares.values()] if d is not None]
        ledger = Ledger(
            values=entries(t.data),
            rows=[(group, _route(group), entries(shares[group])) for group in order],
            total=entries(total),
            residue=rounding(t.dtype, max(np.abs(d).max(initial=0) for d in alive)),
            of=self._gradient_of(t),
            unit="norm" if t.size > MANY else "",
        )
        if t is self.leaf:
            ledger.verdict = _verdict(shares, total, ledger.residue)
        return ledger

    def _bars(self, place) -> list[Bar]:
        leaves = [x for x in self.members[place] if x.op is None and x.requires_grad]
        if isinstance(place, Scope) and place.owner is not None:
            order = {x: i for i, x in enumerate(place.owner.parameters())}
            leaves.sort(key=lambda x: order.get(x, len(order)))
        return [self._bar(x) for x in leaves if x in self.flow.arrived]

    def _bar(self, x: Tensor) -> Bar:
        g = self.flow.arrived[x]
        name = typeset((self.graph.name(x) or "leaf").rpartition(".")[2])
        bar = Bar(name, "×".join(map(str, x.shape)), float(np.linalg.norm(g)))
        routes = explain(self.graph.y, x, self.flow.g) if self.flow.is_zero(g) else None
        if routes is not None and routes.cancels:
            bar.norm = 0.0
            bar.parts = [
                (
                    route.gates[0] if route.gates else DIRECT,
                    float(np.linalg.norm(route.shown)),
                )
                for route in routes
                if route.shown.any()
            ]
        return bar

    # --- Arrows -----------------------------------------------------------------------

    def _arrows(self) -> list[Arrow]:
        uses = defaultdict(list)
        for node in reversed(self.graph.order):
            for slot, x in enumerate(self.graph.inputs(node)):
                if not is_tensor(x):
                    continue
                tail, head = self.places.of[x], self.places.of[node]
                if tail is head or not {tail, head} <= self.keys.keys():
                    continue
                # Between operations each use has its arrow (a * a has two); into or out
                # of a folded call one for each tensor is enough.
                whole = is_tensor(tail) and is_tensor(head)
                arrow = (tail, head, node, slot) if whole else (tail, head, x)
                uses[arrow].append((node, slot))
        return [
            Arrow(self.keys[tail], self.keys[head], self._streams(steps))
            for (tail, head, *_), steps in uses.items()
        ]

    def _streams(self, uses: list[tuple[Tensor, int]]) -> list[Stream]:
        node, slot = uses[0]
        x, streams = self.graph.inputs(node)[slot], []
        for group, d_x in self.flow.shares(uses).items():
            if d_x is None:
                streams.append(Stream(group, 0.0, cut=True))
                continue
            if self.flow.is_zero(d_x) and x is not self.leaf:
                continue
            color = self.flow.color_group((node, x), group)
            stream = Stream(color, self.flow.relative_norm(d_x))
            stream.cancels = self.flow.sums_to_zero(d_x)
            stream.tooltip = f"{group}: {_tooltip(d_x, self.flow.residue)}"
            if (node, x) in self.flow.on_the_way:
                stream.chip = self.flow.in_words(d_x)
                stream.factor = self.places.factor(node, slot) if len(uses) == 1 else ""
            streams.append(stream)
        return streams

    # --- Frames -----------------------------------------------------------------------

    def _frames(self) -> Frame:
        top, frames = Frame(""), {}
        inside = defaultdict(set)
        for place in self.keys:
            for call in self._around(place):
                inside[call].add(place)
        for place, key in self.keys.items():
            frame = top
            for call in reversed(self._around(place)):
                if self._is_framed(call, inside[call]):
                    if call not in frames:
                        frames[call] = Frame(*_frame_title(call))
                        frame.frames.append(frames[call])
                    frame = frames[call]
            frame.boxes.append(key)
        return top

    def _around(self, place) -> list[Scope]:
        """The open calls around a box, innermost first; parameters go with their
        users."""
        if place is REST:
            return []
        if isinstance(place, Scope):
            return list(outward(place.parent))
        if place.op is not None:
            return list(scopes(self.graph.definitions.get(place, place)))
        if not place.requires_grad or place is self.leaf or len(self._uses(place)) > 1:
            return []
        return list(scopes(self._uses(place)[0]))

    def _uses(self, leaf: Tensor) -> list[Tensor]:
        return [user for user, _ in self.places.users[leaf]]

    def _is_framed(self, call: Scope, boxes: set) -> bool:
        if call.owner is not None:
            return not is_container(call.owner) and len(boxes) > 2
        around = call.parent and call.parent.owner
        return len(boxes) > 2 and (around is None or is_container(around))


def _frame_title(call: Scope) -> tuple[str, str]:
    if call.owner is None:
        return call.name, ""
    words = call.owner.caption()
    return (call.name, words) if call.name else (words, "")


def _route(group: str) -> str:
    return group if group in (DIRECT, OTHERS) else f"via {typeset(group)}"


def _verdict(shares: dict, total: np.ndarray, residue: float) -> str:
    """One sentence about a leaf: what cancels, what is cut."""
    alive = [
        g for g, d in shares.items() if d is not None and (np.abs(d) > residue).any()
    ]
    cut = [group for group, d in shares.items() if d is None]
    zero = np.abs(total) <= residue
    if not alive:
        return "nothing arrives"
    if zero.all() and len(shares) == 2 and not cut:
        return "the two routes cancel exactly"
    if zero.all():
        return f"{' and '.join(alive)} {'still ' if cut else ''}cancel"
    if cut:
        return f"{' and '.join(map(typeset, cut))} cut: nothing cancels"
    if len(shares) == 1:
        return "one route, and nothing against it"
    return "the routes cancel in part" if zero.any() else "the routes do not cancel"


def _operation(t: Tensor) -> str:
    """The operation of a tensor, with the plain numbers among its inputs."""
    return " ".join(
        [t.op.name, *(number(x, 3) for x in t.inputs if isinstance(x, float | int))]
    )


def _statistics(name: str, values: np.ndarray) -> str:
    if values.dtype.kind == "b":
        return f"{name} {values.mean():.0%} true"
    mean, std = float(values.mean()), float(values.std())
    mean = 0.0 if abs(mean) < 1e-6 * std else mean
    return f"{name} {number(mean)} ± {number(std)}"


def _tooltip(values: np.ndarray, residue: float) -> str:
    if values.dtype.kind == "f":
        values = np.where(np.abs(values) <= residue, 0, values)
    return np.array2string(values, precision=4, threshold=50, separator=", ")

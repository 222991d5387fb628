"""From the tape to a scene: the boxes, and what flows back between them.

With a leaf, a scene tells by which routes the gradient reaches that leaf: unnamed
operations with one consumer are absorbed into its formula. Without one, every operation
is a box, and calls of modules and composites are folded unless they are opened.
"""

from collections import defaultdict

import numpy as np

from ..routes import Unfolded, Ways, carry, what_cancels
from ..tensor import Scope, Tensor, seed, stop_gradient
from .formula import together
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
    COMMON,
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

MAX_TILES = 6
OTHERS = "other routes"


def compose(
    y: Tensor, leaf, gates, gradient, opened, max_nodes: int, tiles: bool, symbols
) -> Scene:
    """The scene of the graph behind ``y``, with the routes to ``leaf`` if one is given."""
    opened = {opened} if isinstance(opened, str) else set(opened)
    g = (
        seed(y, gradient)
        if leaf is not None or gradient is not None or y.size == 1
        else None
    )
    if leaf is not None:
        graph = Unfolded(y)
        ways = Ways(graph, leaf)
        names = ways.gates(gates)
        _refuse_unknown(opened, graph)
    else:
        graph = Unfolded(y, lambda t: opens(t, opened))
        _refuse_unknown(opened, graph)
        ways, names = None, {}
    places = Places(graph, leaf, names, opened, max_nodes)
    flow = Flow(graph, leaf, ways, names, g, symbols or {})
    if leaf is None and g is not None:
        for scope in places.opened_calls:
            flow.tell_routes_inside(scope)
    return _Composer(places, flow, tiles).scene()


def _refuse_unknown(opened: set[str], graph: Unfolded) -> None:
    known = {call_name(scope) for t in graph.order for scope in scopes(t)}
    known |= {t.op.name for t in graph.order if hasattr(t.op, "definition")}
    if unknown := opened - known:
        raise ValueError(
            "draw(open=): names of modules, composites or fused operations in the graph must "
            f"be given, but {sorted(unknown)} is not among {sorted(known)}."
        )


class Flow:
    """The gradients of a graph, tensor by tensor and step by step.

    ``arrived`` holds the whole gradient of each tensor, ``steps`` for each step from a
    tensor to an input the gradients of the groups of routes that take it.
    """

    def __init__(self, graph, leaf, ways, names, g, symbols):
        self.graph, self.leaf, self.names, self.symbols = graph, leaf, names, symbols
        self.arrived: dict[Tensor, np.ndarray] = {}
        self.steps: dict[tuple, dict[str, np.ndarray | None]] = defaultdict(dict)
        self.common: set[tuple] = set()
        self.ways = ways
        if g is None:
            return
        self.arrived[graph.y] = g
        leaves = [x for t in graph.order for x in graph.inputs(t) if is_tensor(x)]
        leaves = [x for x in dict.fromkeys(leaves) if x.op is None and x.requires_grad]
        if leaves:
            carry(Ways(graph, *leaves), {}, g, self._note_everything)
        if ways is not None:
            self.routed: dict[tuple, dict] = defaultdict(dict)
            carry(ways, names, g, self._note_routes)
            self.steps.update(self.routed)
            from_y, to_leaf, every = ways.count_routes()
            for node, steps in ways.steps.items():
                for x in steps:
                    if (
                        from_y[node] * to_leaf.get(x, 0) == every
                        and len(names)
                        and x is not leaf
                    ):
                        self.common.add((node, x))

    def _note_everything(self, node, x, key, d_x):
        if d_x is not None:
            _add(self.arrived, x, d_x)
            _add(self.steps[node, x], DIRECT, d_x)

    def _note_routes(self, node, x, key, d_x):
        gates = key.gates if x not in self.names else (*key.gates, self.names[x])
        group = OTHERS if key.merged > 1 else gates[0] if gates else DIRECT
        if d_x is not None:
            _add(self.routed[node, x], group, d_x)
        elif node.op is stop_gradient:
            self.routed[node, x].setdefault(group, None)

    def tell_routes_inside(self, scope: Scope) -> None:
        """Tell apart the routes through an open module, from its output to its input."""
        inside = {t for t in self.graph.order if scope in scopes(t)}
        entering = [
            x
            for t in self.graph.order
            if t in inside
            for x in self.graph.inputs(t)
            if is_tensor(x) and x not in inside and x.requires_grad and x.op is not None
        ]
        if len(entering := list(dict.fromkeys(entering))) != 1:
            return
        ways = Ways(self.graph, *entering)
        names = {t: name for t, name in ways.gates(None).items() if t in inside}
        self.names, self.routed = self.names | names, defaultdict(dict)
        carry(ways, names, self.arrived[self.graph.y], self._note_routes)
        for step, streams in self.routed.items():
            if step[0] in inside:
                self.steps[step] = streams

    def group(self, step: tuple, group: str) -> str:
        """The group by which a stream is colored: before routes part, all of them."""
        return COMMON if step in self.common and group == DIRECT else group

    def symbol(self, g: np.ndarray) -> str:
        """What a chip says of ``g``: a symbol that equals it, its numbers, or its norm."""
        for name, values in self.symbols.items():
            values = np.asarray(values)
            for sign, scale, text in (("+", 1, ""), ("−", -1, "")):
                if (
                    np.ndim(g)
                    and values.shape == g.shape
                    and np.allclose(g, scale * values)
                ):
                    return ("" if g.ndim > 1 and sign == "+" else sign) + name + text
            rows = g.reshape(-1, g.shape[-1]) if g.ndim > 1 else None
            if (
                rows is not None
                and rows.shape[1:] == values.shape[-1:]
                and values.ndim == 1
            ):
                n = len(rows)
                if n == 1 and np.allclose(rows[0], values):
                    return f"+{name}"
                if n == 1 and np.allclose(rows[0], -values):
                    return f"−{name}"
                if n > 1 and np.allclose(rows, values / n):
                    return f"+{name}/N"
                if n > 1 and np.allclose(rows, -values / n):
                    return f"−{name}/N"
        if g.size <= 3:
            return "  ".join(number(float(v), sign=True) for v in g.ravel())
        return f"norm {number(float(np.linalg.norm(g)))}"


def _add(into: dict, key, value) -> None:
    into[key] = value if into.get(key) is None else into[key] + value


class _Composer:
    def __init__(self, places: Places, flow: Flow, tiles: bool):
        self.places, self.flow, self.with_tiles = places, flow, tiles
        self.graph, self.leaf = places.graph, places.leaf
        self.formulas = places.formulas
        self.members: dict[object, list[Tensor]] = defaultdict(list)
        for t in reversed(list(places.of)):
            self.members[places.of[t]].append(t)
        self.keys: dict[object, int] = {}
        for t in reversed(self.graph.order):
            for x in self.graph.inputs(t):
                if is_tensor(x):
                    self._number(places.of[x])
            self._number(places.of[t])
        magnitudes = [np.abs(g).max(initial=0) for g in flow.arrived.values()]
        dtype = self.graph.y.dtype if self.graph.y.dtype.kind == "f" else np.float64
        values = [
            np.abs(t.data).max(initial=0)
            for t in self.graph.order
            if t.dtype.kind == "f"
        ]
        self.value_residue = (
            1000 * float(np.finfo(dtype).eps) * max(values, default=0.0)
        )
        self.residue = 1000 * float(np.finfo(dtype).eps) * max(magnitudes, default=0.0)

    def _number(self, place) -> None:
        self.keys.setdefault(place, len(self.keys))

    def scene(self) -> Scene:
        boxes = [self._box(place) for place in self.keys]
        return Scene(boxes, self._arrows(), self._frames())

    # --- Boxes ---------------------------------------------------------------------

    def _box(self, place) -> Box:
        if place is REST:
            text = f"{self.places.hidden} operations folded"
            box = Box(self.keys[place], "rest", "…", note=text)
            box.bars = self._bars(place)
            return box
        if isinstance(place, Scope):
            return self._module_box(place)
        if place.op is None:
            return self._leaf_box(place)
        return self._operation_box(place)

    def _leaf_box(self, t: Tensor) -> Box:
        kind = "leaf" if t.requires_grad else "data"
        name = typeset(t.name) if t.name is not None else "constant"
        if self._around(t):
            name = name.rpartition(".")[2]
        box = Box(
            self.keys[t], kind, name, note=shape_text(t.shape), tooltip=_tooltip(t.data)
        )
        if kind == "leaf" and self.leaf is not None:
            box.ledger = self._ledger(t)
        else:
            box.tiles = self._tiles(t)
            box.text = self._summary(t)
        return box

    def _operation_box(self, t: Tensor) -> Box:
        kind = "gate" if t in self.flow.names else "op"
        kind = "output" if t is self.graph.y else kind
        head = self.graph.definitions.get(t, t)
        name, formula = t.name and typeset(t.name), self.formulas.texts[t][0]
        box = Box(self.keys[t], kind, name or "", note=shape_text(t.shape))
        box.tooltip = _tooltip(t.data)
        box.group = self.flow.names.get(t, "")
        if self.places.as_formula(t):
            box.title, box.formula = (name, formula) if name else (formula, "")
        else:
            box.operation, box.title = _operation(head), name or ""
        box.tiles, box.text = self._tiles(t), self._summary(t)
        return box

    def _module_box(self, scope: Scope) -> Box:
        members = self.members[scope]
        operations = [t for t in members if t.op is not None]
        outputs = [
            t for t in operations if t is self.graph.y or self._leaves_the_box(t)
        ]
        last = outputs[-1] if outputs else operations[-1]
        box = Box(self.keys[scope], "module", "", tooltip=_tooltip(last.data))
        if scope.owner is None:
            box.operation = scope.name
            if len(outputs) > 1:
                box.note = f"{len(outputs)} outputs"
            else:
                box.title = typeset(last.name) if last.name is not None else ""
                box.note = shape_text(last.shape)
                box.tiles, box.text = self._tiles(last), self._summary(last)
            box.kind = "output" if last is self.graph.y else "op"
        else:
            kind = type(scope.owner).__name__
            box.title = scope.name or kind
            box.note = (
                f"{kind} {scope.owner.extra_repr()}".strip() if scope.name else ""
            )
            box.bars = self._bars(scope)
        return box

    def _leaves_the_box(self, t: Tensor) -> bool:
        here = self.places.of[t]
        return any(
            self.places.of[user] is not here
            for user in self.graph.order
            if any(x is t for x in self.graph.inputs(user))
        )

    def _tiles(self, t: Tensor) -> list[Tiles]:
        if not self.with_tiles or not _is_small(t):
            return []
        values = np.where(np.abs(t.data) <= self.value_residue, 0, t.data)
        tiles = [Tiles("value", np.atleast_2d(values))]
        g = self.flow.arrived.get(t)
        if g is not None:
            wide = t.ndim == 2 and t.shape[0] > 1
            sums = (
                self._rounded(g.sum(axis=0)) if wide and self.leaf is not None else None
            )
            tiles.append(
                Tiles(self._gradient_of(t), np.atleast_2d(self._rounded(g)), sums)
            )
        return tiles

    def _gradient_of(self, t: Tensor) -> str:
        top = "L" if self.graph.y.name is None else typeset(self.graph.y.name)
        return f"∂{top}/∂{typeset(t.name)}" if t.name else "gradient"

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        return np.where(np.abs(values) <= self.residue, 0, values)

    def _summary(self, t: Tensor) -> list[str]:
        if t.ndim == 0:
            return [number(float(t.data), 3)]
        if t.size == 0:
            return ["empty"]
        g = self.flow.arrived.get(t)
        if not self.with_tiles:
            zero = self.leaf is not None and g is not None and self._sums_to_zero(g)
            return [f"Σ over batch of {self._gradient_of(t)} = 0"] if zero else []
        if _is_small(t):
            return []
        return [_statistics("value", t.data)] + (
            [] if g is None else [_statistics("gradient", g)]
        )

    def _ledger(self, t: Tensor) -> Ledger:
        total = self.flow.arrived.get(t, np.zeros(t.shape))
        groups: dict[str, np.ndarray | None] = {}
        if t is self.leaf:
            for (_, x), streams in self.flow.steps.items():
                if x is t:
                    for group, d_x in streams.items():
                        if d_x is not None:
                            _add(groups, group, d_x)
            for streams in self.flow.steps.values():
                for group, d_x in streams.items():
                    if d_x is None:
                        groups.setdefault(group, None)
        many = t.size > MAX_TILES

        def entries(g):
            return (
                [float(np.linalg.norm(g))] if many else [float(v) for v in np.ravel(g)]
            )

        sizes = [np.abs(d).max(initial=0) for d in groups.values() if d is not None]
        scale = max([*sizes, np.abs(total).max(initial=0)], default=0.0)
        residue = 1000 * float(np.finfo(t.dtype).eps) * scale
        order = sorted(groups, key=lambda g: (g != DIRECT, g == OTHERS, g))
        rows = [
            (
                g,
                g if g in (DIRECT, OTHERS) else f"via {g}",
                _or_none(groups[g], entries),
            )
            for g in order
        ]
        return Ledger(
            values=[f"norm {number(float(np.linalg.norm(t.data)))}"]
            if many
            else [number(float(v), 3) for v in t.data.ravel()],
            rows=rows if len(rows) > 1 else [],
            total=entries(total),
            residue=residue,
            of=self._gradient_of(t),
            verdict=_verdict(groups, total, residue) if t is self.leaf else "",
        )

    def _bars(self, place) -> list[Bar]:
        leaves = {t for t in self.members[place] if t.op is None and t.requires_grad}
        owner = getattr(place, "owner", None)
        ordered = [t for t in owner.parameters() if t in leaves] if owner else []
        ordered += [t for t in self.members[place] if t in leaves and t not in ordered]
        return [self._bar(t) for t in ordered if t in self.flow.arrived]

    def _bar(self, t: Tensor) -> Bar:
        name = (t.name or "leaf").rpartition(".")[2]
        norm = float(np.linalg.norm(self.flow.arrived[t]))
        bar = Bar(typeset(name), "×".join(map(str, t.shape)), norm)
        if norm <= 10 * self.residue:
            y = self.graph.y
            what = what_cancels(y, t, self.flow.arrived[y])
            if what is not None:
                bar.norm = 0.0
                bar.parts = [
                    (
                        r.gates[0] if r.gates else DIRECT,
                        float(np.linalg.norm(r.gradient)),
                    )
                    for r in what
                ]
        return bar

    # --- Arrows --------------------------------------------------------------------

    def _arrows(self) -> list[Arrow]:
        arrows, seen = [], {}
        for node in reversed(self.graph.order):
            for slot, x in enumerate(self.graph.inputs(node)):
                if not is_tensor(x) or self.places.of[x] is self.places.of[node]:
                    continue
                tail, head = self.places.of[x], self.places.of[node]
                folded = not is_tensor(tail) or not is_tensor(head)
                key = (tail, head, x) if folded else (tail, head, node, slot)
                if key in seen:
                    continue
                arrow = Arrow(self.keys[tail], self.keys[head])
                arrow.streams = self._streams(node, slot, x)
                seen[key] = arrow
                arrows.append(arrow)
        return arrows

    def _streams(self, node: Tensor, slot: int, x: Tensor) -> list[Stream]:
        streams = []
        step = (node, x)
        contributions = self.flow.steps.get(step, {})
        largest = max(
            (float(np.linalg.norm(g)) for g in self.flow.arrived.values()), default=0
        )
        path = self._path(node)
        factors = [self.formulas.factor(n, s) for n, s in path]
        factors.append(self.formulas.factor(node, slot))
        for group, d_x in contributions.items():
            if d_x is None:
                streams.append(Stream(group, 0.0, cut=True))
                continue
            norm = float(np.linalg.norm(d_x))
            zero = norm <= self.residue
            if zero and x is not self.leaf:
                continue
            stream = Stream(
                self.flow.group(step, group), norm / largest if largest else 0.0
            )
            stream.cancels = zero or self._sums_to_zero(d_x)
            if self.leaf is not None and self._on_the_way(step):
                stream.chip = "0" if zero else self.flow.symbol(d_x)
                stream.factor = together(factors)
            stream.tooltip = f"{group}: {_tooltip(d_x)}"
            streams.append(stream)
        return streams

    def _on_the_way(self, step: tuple) -> bool:
        node, x = step
        return x in self.flow.ways.steps.get(node, {})

    def _sums_to_zero(self, g: np.ndarray) -> bool:
        return (
            g.ndim > 1
            and g.shape[0] > 1
            and bool((np.abs(g.sum(axis=0)) <= self.residue).all())
        )

    def _path(self, node: Tensor) -> list[tuple[Tensor, int]]:
        """The absorbed operations between ``node`` and the tensor whose box it is in."""
        box, path = self.places.of[node], []
        while node is not box and is_tensor(box):
            user, slot = next(
                (t, i)
                for t in self.graph.order
                for i, x in enumerate(self.graph.inputs(t))
                if x is node
            )
            path.append((user, slot))
            node = user
        return path[::-1]

    # --- Frames --------------------------------------------------------------------

    def _frames(self) -> Frame:
        top = Frame("")
        found: dict[object, Frame] = {}
        counts = defaultdict(set)
        for place in self.keys:
            for scope in self._around(place):
                counts[scope].add(place)
        for place, key in self.keys.items():
            frame = top
            for scope in reversed(self._around(place)):
                if not self._framed(scope, counts):
                    continue
                if scope not in found:
                    found[scope] = Frame(*self._frame_title(scope))
                    frame.frames.append(found[scope])
                frame = found[scope]
            frame.boxes.append(key)
        return top

    def _around(self, place) -> list[Scope]:
        """The open calls around a box, innermost first."""
        if place is REST:
            return []
        if isinstance(place, Scope):
            return list(outward(place.parent))
        if place.op is not None:
            return list(scopes(place))
        if not place.requires_grad or place is self.leaf:
            return []
        around = [
            list(scopes(t))
            for t in self.graph.order
            if any(x is place for x in self.graph.inputs(t))
        ]
        return [s for s in around[0] if all(s in other for other in around[1:])]

    def _framed(self, scope: Scope, counts) -> bool:
        if scope.owner is not None and is_container(scope.owner):
            return False
        inside = scope.parent is not None and scope.parent.owner is not None
        if inside and scope.owner is None and not is_container(scope.parent.owner):
            return False
        return len(counts[scope]) > 2

    def _frame_title(self, scope: Scope) -> tuple[str, str]:
        if scope.owner is None:
            return scope.name, ""
        kind = type(scope.owner).__name__
        return (
            scope.name or kind,
            f"{kind} {scope.owner.extra_repr()}" if scope.name else "",
        )


def _is_small(t: Tensor) -> bool:
    return 0 < t.ndim <= 2 and t.size > 0 and max(t.shape) <= MAX_TILES


def _or_none(value, function):
    return None if value is None else function(value)


def _verdict(groups: dict, total: np.ndarray, residue: float) -> str:
    alive = [
        g
        for g, d in groups.items()
        if d is not None and np.abs(d).max(initial=0) > residue
    ]
    cut = [g for g, d in groups.items() if d is None]
    zero = bool((np.abs(total) <= residue).all())
    if not alive:
        return "nothing arrives"
    if zero and len(alive) > 1:
        if len(alive) == 2 and len(groups) == 2:
            return "the two routes cancel exactly"
        return " and ".join(alive) + (" still cancel" if cut else " cancel")
    if cut:
        return f"{' and '.join(cut)} cut: nothing cancels"
    return ""


def _operation(t: Tensor) -> str:
    """The operation of a tensor, with the plain numbers among its inputs."""
    numbers = [number(x, 3) for x in t.inputs if isinstance(x, float | int)]
    return " ".join([t.op.name, *numbers])


def _statistics(name: str, values: np.ndarray) -> str:
    if values.dtype.kind == "b":
        return f"{name} {values.mean():.0%} true"
    mean, std = number(float(values.mean())), number(float(values.std()))
    return f"{name} {mean} ± {std}"


def _tooltip(values: np.ndarray) -> str:
    return np.array2string(values, precision=4, threshold=50, separator=", ")

"""What the boxes of a scene say: names, formulas, values, ledgers and bars.

This file comes after ``flow.py`` and ``places.py`` in the reading order; ``compose.py``
is next.

Left out on purpose: histograms. The mean and the standard deviation stand for a large
tensor.
"""

from collections import defaultdict

import numpy as np

from ..explanation import MANY, largest_entries
from ..kernels import norm
from ..scopes import Scope
from ..tensor import Tensor
from .flow import Flow, Gradient, Shares, add_to
from .formula import operation_text
from .places import Place, Places, Rest, call_name
from .scene import (
    AROUND,
    DIRECT,
    Bar,
    Box,
    Ledger,
    Row,
    Tiles,
    number,
    shape_text,
    typeset,
    values_text,
)


class Boxes:
    """Makes the box of each place."""

    def __init__(self, places: Places, flow: Flow, tiles: bool):
        self.places, self.flow, self.tiles_wanted = places, flow, tiles
        self.graph, self.leaf = places.graph, places.leaf
        self.members: dict[Place, dict[Tensor, None]] = defaultdict(dict)
        for t in reversed(self.graph.order):
            for x in (*self.graph.inputs(t), t):
                if isinstance(x, Tensor):
                    self.members[places.of[x]][x] = None
        self.drawn_modules: list[object] = []
        self.alarms: dict[Place, list[str]] = defaultdict(list)
        for t, alarms in flow.alarms().items():
            self.alarms[places.of[t]] += alarms

    def box(self, place: Place, key: int, inside: bool) -> Box:
        """The box of a place; ``inside`` a frame, a parameter is named without path."""
        if isinstance(place, Rest):
            box = self._rest(place, key)
        elif isinstance(place, Scope):
            box = self._call(place, key)
        elif place.op is None:
            box = self._leaf(place, key, inside)
        else:
            box = self._operation(place, key)
        box.alarms = self.alarms[place]
        return box

    def _rest(self, rest: Rest, key: int) -> Box:
        counts = [(len(rest.modules), "module"), (rest.operations, "operation")]
        counted = [f"{n} {what}{'s' * (n > 1)}" for n, what in counts if n]
        box = Box(key, "rest", rest.title(), note=f"{' and '.join(counted)} folded")
        parameters = [x for x in self.members[rest] if x.op is None and x.requires_grad]
        if parameters:
            count = len(parameters)
            box.text = [f"{count} parameter{'s' * (count > 1)}"]
        return box

    def _leaf(self, t: Tensor, key: int, inside: bool) -> Box:
        name = self.graph.name(t)
        if name is None:
            title = "leaf" if t.requires_grad else self._unnamed(t)
        else:
            title = typeset(name.rpartition(".")[2] if inside else name)
        box = Box(key, "leaf" if t.requires_grad else "data", title)
        box.note, box.tooltip = shape_text(t.shape), values_text(self.flow.values(t))
        if t is self.leaf or (
            t.requires_grad and self.leaf is not None and t.size <= MANY
        ):
            box.ledger = self._ledger(t)
        elif t.requires_grad and self.leaf is not None:
            box.bars = [self._bar(t, "gradient")]
        else:
            self._add_values(box, t)
        return box

    def _unnamed(self, t: Tensor) -> str:
        """The label of unnamed data: the input of a module, or a constant."""
        users = [self.places.of[node] for node, _ in self.places.users[t]]
        if any(isinstance(place, Scope | Rest) for place in users):
            return "input"
        name = self.places.formulas.constants.get(t, "")
        in_formulas = all(
            isinstance(p, Tensor) and self.places.as_formula(p) for p in users
        )
        return f"constant {name}" if name and in_formulas else "constant"

    def _operation(self, t: Tensor, key: int) -> Box:
        box = Box(key, "output" if t is self.graph.y else "op", "")
        box.note, box.tooltip = shape_text(t.shape), values_text(self.flow.values(t))
        box.group = self.flow.gates.get(t, "")
        formulas = self.places.formulas
        name, formula = t.name and typeset(t.name), formulas.texts[t].text
        if self.places.as_formula(t):
            if name is None and t in formulas.normalized:
                name = "x"
            box.title, box.formula = (name, formula) if name else (formula, "")
        else:
            box.title = name or ""
            shown = t
            if t in self.graph.definitions and self.places.definition_is_open(t):
                shown = self.graph.definitions[t]
            box.operation = operation_text(shown)
        self._add_values(box, t)
        box.bars = self._bars(t)
        return box

    def _call(self, call: Scope, key: int) -> Box:
        outputs = [t for t in self.members[call] if t.op and self._is_output(t)]
        last = outputs[-1]
        box = Box(key, "op", "", tooltip=values_text(self.flow.values(last)))
        if call.owner is not None:
            box.title, box.note = frame_title(call)
            box.bars = self._bars(call)
            if call.owner in self.drawn_modules:
                box.note += ", again"
            self.drawn_modules.append(call.owner)
            return box
        box.operation = call.name
        if len(outputs) > 1:
            box.note = f"{len(outputs)} outputs"
            return box
        box.kind = "output" if last is self.graph.y else "op"
        box.title = typeset(last.name) if last.name is not None else ""
        box.note = shape_text(last.shape)
        self._add_values(box, last)
        return box

    def _is_output(self, t: Tensor) -> bool:
        here = self.places.of[t]
        users = self.places.users[t]
        return t is self.graph.y or any(self.places.of[u] is not here for u, _ in users)

    # --- Values -----------------------------------------------------------------------

    def _add_values(self, box: Box, t: Tensor) -> None:
        """Give a box its tiles, or text where the tensor is too large for them."""
        d = self.flow.arrived.get(t)
        small = 0 < t.ndim <= 2 and t.size > 0 and max(t.shape) <= MANY
        if small and self.tiles_wanted:
            box.tiles = self._tiles(t, d)
        else:
            box.text = self._in_words(t, d)

    def _in_words(self, t: Tensor, d: Gradient | None) -> list[str]:
        if t.ndim == 0:
            return [number(t.item(), 3)]
        if t.size == 0:
            return ["empty"]
        if self.leaf is None and self.tiles_wanted:
            lines = [_statistics("value", self.flow.values(t))]
            if d is not None:
                lines.append(_statistics("gradient", self.flow.shown(d)))
            return lines
        if self.leaf is None or t.op is None or d is None:
            return []
        vanishes = self.flow.sums_to_zero(d)
        return [f"Σ over batch of {self._gradient_of(t)} = 0"] if vanishes else []

    def _tiles(self, t: Tensor, d: Gradient | None) -> list[Tiles]:
        tiles = [Tiles("value", np.atleast_2d(self.flow.values(t)))]
        if d is not None:
            wide = self.leaf is not None and t.ndim == 2 and len(t) > 1
            sums = d.sums() if wide else None
            shown = np.atleast_2d(self.flow.shown(d))
            tiles.append(Tiles(self._gradient_of(t), shown, sums))
        return tiles

    def _gradient_of(self, t: Tensor) -> str:
        top = "L" if self.graph.y.name is None else typeset(self.graph.y.name)
        name = self.graph.name(t)
        if name is None:
            return "gradient"
        return f"∂{top}/∂{typeset(name.rpartition('.')[2] or name)}"

    # --- Ledgers and bars -------------------------------------------------------------

    def _ledger(self, t: Tensor) -> Ledger:
        nothing = Gradient(np.zeros(t.shape), np.zeros(t.shape))
        total = self.flow.arrived.get(t, nothing)
        shares: Shares = {}
        if t is self.leaf:
            shares = self.flow.shares(self.places.users[t])
            shares = dict.fromkeys(self.flow.cut_groups()) | shares
        others = [total, *shares.values()]
        recorded = [d.recorded for d in others if d is not None]
        columns = largest_entries(recorded, t.shape)
        rows = [
            self.row(group, route_text(group), shares[group], others, columns)
            for group in sorted(shares, key=lambda g: (g == AROUND, g != DIRECT, g))
        ]
        of = self._gradient_of(t)
        ledger = Ledger(
            values=[float(t.data[i]) for i in columns],
            rows=rows,
            total=self.row("", of, total, others, columns),
            of=of,
            columns=column_heads(columns, t),
        )
        if t is self.leaf:
            ledger.remark = _remark(rows, ledger.total)
        return ledger

    def row(
        self,
        group: str,
        label: str,
        d: Gradient | None,
        others: list[Gradient | None],
        columns: list[tuple[int, ...]],
    ) -> Row:
        """A line of a ledger, with the entries at the indices ``columns``."""
        if d is None:
            return Row(group, label, None)
        shown = self.flow.shown(d, others)
        many = len(columns) < shown.size
        entries = [float(shown[i]) for i in columns]
        return Row(group, label, entries, norm(shown) if many else None)

    def _bars(self, place: Place) -> list[Bar]:
        """A bar for each parameter; those of a module are named as seen from there."""
        names: dict[Tensor, str] = {}
        if isinstance(place, Scope):
            names = {x: name for name, x in place.owner.named_parameters()}
        here = self.members[place]
        for x in here:
            names.setdefault(x, (self.graph.name(x) or "leaf").rpartition(".")[2])
        return [
            self._bar(x, typeset(name))
            for x, name in names.items()
            if x in here and x.op is None and x in self.flow.arrived
        ]

    def _bar(self, x: Tensor, name: str) -> Bar:
        total = self.flow.arrived[x]
        shares: Shares = {}
        for use in self.places.users[x]:
            step = self.flow.step(*use)
            for group, d in self.flow.everywhere.get(step, {}).items():
                add_to(shares, group, d)
        others = [total, *shares.values()]
        g = self.flow.shown(total, others)
        bar = Bar(name, "×".join(map(str, x.shape)), norm(g))
        if not g.any():
            parts = [(k, d) for k, d in shares.items() if d is not None]
            sizes = [(k, norm(self.flow.shown(d, others))) for k, d in parts]
            bar.parts = [(k, size) for k, size in sizes if size]
        return bar


def column_heads(columns: list[tuple[int, ...]], t: Tensor) -> list[str]:
    """The column headings of a ledger that shows only some entries: their indices."""
    if len(columns) == t.size:
        return []
    return [str(list(index)).replace(" ", "") for index in columns]


def frame_title(call: Scope) -> tuple[str, str]:
    """The name of a call, and the caption of its module."""
    if call.owner is None:
        return call.name, ""
    caption = call.owner.caption()
    return (call_name(call), caption) if call.name else (caption, "")


def route_text(group: str) -> str:
    return group if group in (DIRECT, AROUND) else f"via {typeset(group)}"


def _remark(rows: list[Row], total: Row) -> str:
    """One sentence about a leaf: which routes cancel, and which are cut."""

    def has_gradient(row: Row) -> bool:
        return row.norm != 0 if row.norm is not None else any(row.entries or [])

    alive = [row for row in rows if row.entries is not None and has_gradient(row)]
    cut = [row.group for row in rows if row.entries is None]
    names = " and ".join(typeset(row.group) for row in alive)
    if not alive:
        return "nothing arrives"
    if not np.isfinite([v for row in [*alive, total] for v in row.entries or []]).all():
        return "not finite"
    if not has_gradient(total):
        if len(rows) == 2 and not cut:
            return "the two routes cancel exactly"
        return f"{names} {'still ' if cut else ''}cancel"
    if cut:
        return f"{' and '.join(map(typeset, cut))} cut: nothing cancels"
    if len(rows) == 1:
        return "one route; nothing cancels it"
    some = total.norm is None and not all(total.entries or [])
    return "the routes cancel in part" if some else "the routes do not cancel"


def _statistics(name: str, values: np.ndarray) -> str:
    if values.dtype.kind == "b":
        return f"{name} {values.mean():.0%} true"
    with np.errstate(all="ignore"):
        mean, std = float(values.mean()), float(values.std())
    mean = 0.0 if abs(mean) < 1e-6 * std else mean
    return f"{name} {number(mean)} ± {number(std)}"

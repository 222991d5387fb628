"""The text in the boxes and along the arrows, as HTML-like labels.

This file comes after ``sheets.py`` in the reading order; ``layout.py`` is next.

Left out on purpose: the choice of what to show, which is made in ``boxes.py``.
"""

import numpy as np

from .markup import (
    LEFT,
    RIGHT,
    RULE,
    address,
    block,
    cell,
    label,
    rounded,
    table,
    text,
    width_of,
)
from .scene import Bar, Box, Ledger, Row, Stream, Tiles, number, size_text
from .sheets import Sheets
from .strips import DIAMOND, HALF, balance_of_bar, balances, norm_bar
from .theme import Theme


class Labels:
    """The labels of one drawing: its theme, and the norm of its longest bar."""

    def __init__(self, theme: Theme, largest: float = 0.0):
        self.theme, self.largest = theme, largest

    def quiet(self, content: str, size: int = 11) -> str:
        return text(content, self.theme.quiet, size)

    def ink(self, content: str, size: int = 12, bold: bool = False) -> str:
        return text(content, self.theme.ink, size, bold)

    # --- Boxes ------------------------------------------------------------------------

    def box(self, box: Box, name: str) -> str:
        """The label of a node."""
        return label(self.html(box, name))

    def html(self, box: Box, name: str) -> str:
        """A whole box: its title, then its ledger, tiles, text and bars, if any.

        Each value has an id that begins with the ``name`` of the box.
        """
        if box.sheet is not None:
            return Sheets(self.theme).sheet(box.sheet, name)
        rows = [self.title(box)]
        rows += [text(line, self.theme.alarm, 12, bold=True) for line in box.alarms]
        if box.ledger is not None:
            rows.append(self.ledger(box.ledger, name))
        if box.tiles:
            rows.append(self.tiles(box.tiles, name))
        if box.kind == "output":
            rows += [self.ink(line, 15, bold=True) for line in box.text]
        else:
            rows += [self.quiet(line) for line in box.text]
        if box.bars:
            rows.append(self.bars(box.bars, name))
        border, fill, width = self._frame(box)
        cells = (cell(row, LEFT) for row in rows)
        return rounded(cells, border, fill, width, spacing=1, padding=4)

    def _frame(self, box: Box) -> tuple[str, str, int]:
        theme = self.theme
        if box.alarms:
            return theme.alarm, theme.operation, 3
        if box.kind == "leaf":
            return theme.leaf_border, theme.leaf, 2
        if box.bars:
            return theme.leaf_border, theme.operation, 2
        if box.group:
            return theme.of(box.group), theme.operation, 2
        quiet = box.kind in ("data", "output", "rest")
        return theme.border, theme.data if quiet else theme.operation, 1

    def title(self, box: Box) -> str:
        """The name, the formula or the operation, and the shape."""
        color = self.theme.text_of(box.group) if box.group else self.theme.ink
        equation = box.equation()
        name = text(equation, color, 14, bold=True) if equation else ""
        note = self.quiet(f"  {box.note}") if box.note else ""
        if not box.operation:
            return name + note
        fill = self.theme.of_operation(box.operation)
        badge = rounded(
            [cell(self.ink(f" {box.operation} ", 12, bold=True))], fill, fill
        )
        cells = [name + self.quiet("  "), badge, note] if name else [badge, note]
        return table(["".join(map(cell, filter(None, cells)))], spacing=2, padding=0)

    def tiles(self, tiles: list[Tiles], name: str) -> str:
        """Values and gradient next to each other, row by row, above the sums."""
        parts = [t.values.astype(float) for t in tiles]
        gap = cell(width=8)
        head = gap.join(
            cell(self.quiet(t.heading), colspan=values.shape[1])
            for t, values in zip(tiles, parts)
        )
        largest = [float(np.abs(v[np.isfinite(v)]).max(initial=0)) for v in parts]
        rows = [head]
        for i in range(len(parts[0])):
            cells = (
                self._tiles(v[i], size, f"{name}_tiles{k}_row{i}")
                for k, (v, size) in enumerate(zip(parts, largest))
            )
            rows.append(gap.join(cells))
        if any(t.sums is not None for t in tiles):
            last = f"row{len(parts[0])}"
            cells = (
                self._sums(t, f"{name}_tiles{k}_{last}") for k, t in enumerate(tiles)
            )
            rows.append(gap.join(cells))
        return table(rows, spacing=2)

    def _tiles(self, values: np.ndarray, largest: float, row: str) -> str:
        return "".join(
            cell(
                self.ink(number(v), 11), width=tile_width(v), height=20,
                bgcolor=self.theme.tile(v, largest), **address(row, k),
            )
            for k, v in enumerate(values)
        )  # fmt: skip

    def _sums(self, tiles: Tiles, row: str) -> str:
        if tiles.sums is None:
            return cell(self.quiet("Σ"), RIGHT, colspan=tiles.values.shape[1])
        return "".join(
            cell(self.ink(number(v, sign=True), 11, bold=True), **address(row, k))
            for k, v in enumerate(tiles.sums)
        )

    def bars(self, bars: list[Bar], name: str) -> str:
        """A row per parameter: the norm of its gradient, or the parts that cancel."""
        rows = []
        for i, bar in enumerate(bars):
            picture = (
                balance_of_bar(bar, self.largest, self.theme)
                if bar.parts
                else norm_bar(bar.norm, self.largest, self.theme)
            )
            size = size_text(bar.norm) if bar.norm else "0"
            color = self.theme.ink if np.isfinite(bar.norm) else self.theme.alarm
            norm = text(size, color, bold=not bar.norm)
            rows.append(
                cell(self.ink(bar.name, bold=True), LEFT)
                + cell(self.quiet(bar.shape), LEFT)
                + cell(picture, LEFT)
                + cell(norm, RIGHT, width=36, **address(f"{name}_row{i}", 0))
            )
        return table(rows, spacing=2)

    # --- The ledger -------------------------------------------------------------------

    def ledger(self, ledger: Ledger, name: str) -> str:
        """Value, one row per group of routes, balance, total, and a remark."""
        some = bool(ledger.columns)
        columns = len(ledger.total.entries or []) + some
        rows = []
        if some:
            heads = [*map(self.quiet, ledger.columns), self.quiet("norm")]
            rows.append(self._line(self.quiet("entry"), heads, ""))
        values = [self.quiet(number(v, 3)) for v in ledger.values]
        width = entry_width(ledger)
        values += [""] * some
        rows += [self._line(self.quiet("value"), values, f"{name}_row0", width), RULE]
        if ledger.rows:
            rows += [
                self._route(row, columns, f"{name}_row{i}")
                for i, row in enumerate(ledger.rows, 1)
            ]
            strips = balances(ledger.rows, ledger.total, self.theme)
            if len(ledger.rows) > 1 and any(strips):
                head = cell(self.quiet("balance"), LEFT)
                rows.append(head + "".join(map(cell, strips)))
            rows.append(RULE)
        total = [self.ink(each, 13, bold=True) for each in ledger.total.numbers()]
        last = f"{name}_row{len(ledger.rows) + 1}"
        rows.append(self._line(self.ink(ledger.of, 13, bold=True), total, last))
        if ledger.remark:
            rows.append(cell(self.quiet(ledger.remark), LEFT, colspan=columns + 1))
        return table(rows, padding=3, color=self.theme.border)

    def _line(self, head: str, entries: list[str], row: str, width: int = 1) -> str:
        return cell(head, LEFT) + "".join(
            cell(e, RIGHT, width=width, **address(row, k) if row and e else {})
            for k, e in enumerate(entries)
        )

    def _route(self, row: Row, columns: int, name: str) -> str:
        color = self.theme.text_of(row.group)
        head = text(row.label, color, 12, bold=True)
        if row.entries is None:
            cut = text("· · · · · · · ✕  cut", color, 12)
            return cell(head, LEFT) + cell(cut, RIGHT, colspan=columns)
        return self._line(head, [text(each, color) for each in row.numbers()], name)

    # --- Arrows -----------------------------------------------------------------------

    def stream(self, stream: Stream) -> str:
        """The gradient and its local factor, at a distance from the arrow itself."""
        color = self.theme.text_of(stream.group)
        amount = "✕" if stream.cut else stream.amount
        lines = [cell(text(f" {amount} ", color, 12, bold=True))]
        lines += [
            cell(self.quiet(f" {part} "))
            for part in stream.factor.split(", ")
            if part and not stream.cut
        ]
        color = self.theme.of(stream.group)
        box = rounded(lines, color, self.theme.background, padding=2)
        space = cell(width=6)
        return label(table([space + cell(box) + space], padding=2))

    def gap(self) -> str:
        """An empty label, which keeps an arrow's lane as wide as the others."""
        return label(table([block(None, 8, 1)], padding=0))


def entry_width(ledger: Ledger) -> int:
    """The width of a column of a ledger, in which strips may follow the numbers."""
    if len(ledger.rows) > 1:
        return 2 * HALF + DIAMOND + 2
    widths = [width_of(e, 13, bold=True) + 8 for e in ledger.total.numbers()]
    return round(max(widths, default=0))


def tile_width(value: float) -> int:
    return max(34, round(width_of(number(value), 11)) + 8)

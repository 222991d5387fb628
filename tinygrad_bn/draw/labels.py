"""What stands in the boxes and on the arrows of a drawing, as HTML-like labels."""

from unicodedata import east_asian_width

import numpy as np

from .markup import block, cell, label, rounded, table, text
from .scene import DIRECT, Bar, Box, Chain, Ledger, Sheet, Tiles, number
from .theme import Theme

HALF_BAR = 22
LEFT, RIGHT = "LEFT", "RIGHT"


class Labels:
    """The labels of one theme."""

    def __init__(self, theme: Theme):
        self.theme = theme

    def quiet(self, words: str, size: int = 10) -> str:
        return text(words, self.theme.quiet, size)

    def ink(self, words: str, size: int = 12, bold: bool = False) -> str:
        return text(words, self.theme.ink, size, bold)

    # --- Boxes ------------------------------------------------------------------------

    def box(self, box: Box) -> str:
        """A whole box: title, then whichever of ledger, tiles, bars and lines it
        has."""
        if box.sheet is not None:
            return self.sheet(box.sheet)
        rows = [self.title(box)]
        if box.ledger is not None:
            rows.append(self.ledger(box.ledger))
        if box.tiles:
            tiles = (cell(self.tiles(t), valign="TOP") for t in box.tiles)
            rows.append(table(["".join(tiles)], spacing=4))
        if box.kind == "output":
            rows += [self.ink(line, 15, bold=True) for line in box.text]
        else:
            rows += [self.quiet(line, 11) for line in box.text]
        if box.bars:
            rows.append(self.bars(box.bars))
        border, fill, width = self._frame(box)
        cells = (cell(row, LEFT) for row in rows)
        return label(rounded(cells, border, fill, width, spacing=1, padding=3))

    def _frame(self, box: Box) -> tuple[str, str, int]:
        theme = self.theme
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
        words = " = ".join(part for part in (box.title, box.formula) if part)
        name = text(words, color, 14, bold=True) if words else ""
        note = self.quiet(f"  {box.note}")
        if not box.operation:
            return name + note
        fill = self.theme.of_operation(box.operation)
        badge = rounded(
            [cell(self.ink(f" {box.operation} ", 11, bold=True))], fill, fill
        )
        cells = [name + self.quiet("  "), badge, note] if name else [badge, note]
        return table(["".join(map(cell, cells))], spacing=2, padding=0)

    def tiles(self, tiles: Tiles) -> str:
        """Numbers on colored ground, below their heading and above their sums."""
        values = tiles.values.astype(float)
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
        rows = [cell(self.quiet(tiles.heading), colspan=values.shape[1])]
        for row in values:
            colors = (self.theme.tile(v, largest) for v in row)
            rows.append("".join(
                cell(self.ink(number(v), 10), width=34, height=19, bgcolor=color)
                for v, color in zip(row, colors)
            ))  # fmt: skip
        if tiles.sums is not None:
            sums = (
                self.ink(number(v, sign=bool(v)), 10, bold=True) for v in tiles.sums
            )
            rows.append("".join(map(cell, sums)))
        return table(rows, spacing=2)

    def bars(self, bars: list[Bar]) -> str:
        """A row per parameter: the norm of its gradient, or the parts that cancel."""
        sizes = [bar.norm for bar in bars] + [s for bar in bars for _, s in bar.parts]
        scale = max(sizes, default=0) or 1
        rows = []
        for bar in bars:
            if bar.parts:
                picture = self._balance_of(
                    [(g, (s if g == DIRECT else -s) / scale) for g, s in bar.parts], 0
                )
            else:
                width = 2 * HALF_BAR * bar.norm / scale
                rest = block(None, 2 * HALF_BAR + 8 - width)
                picture = table([block(self.theme.direct, width) + rest], padding=0)
            size = number(bar.norm) if bar.norm else "0"
            rows.append(
                cell(self.ink(bar.name, bold=True), LEFT)
                + cell(self.quiet(bar.shape), LEFT)
                + cell(picture, LEFT)
                + cell(self.ink(size, bold=not bar.norm), RIGHT)
            )
        return table(rows, spacing=2)

    # --- The ledger -------------------------------------------------------------------

    def ledger(self, ledger: Ledger) -> str:
        """Value, one row per group of routes, balance, total, and the verdict."""
        columns = max(len(ledger.values), len(ledger.total))
        values = [f"{ledger.unit} {number(v, 3)}".strip() for v in ledger.values]
        head = [self._line(self.quiet("value"), map(self.quiet, values))]
        routes = [self._route(ledger, *row, columns) for row in ledger.rows]
        if routes:
            bars = "".join(map(cell, self._balances(ledger)))
            routes.append(cell(self.quiet("balance"), LEFT) + bars)
        total = [
            self._line(
                self.ink(ledger.of, 13, bold=True),
                (
                    self.ink(e, 13, bold=True)
                    for e in self._entries(ledger, ledger.total)
                ),
            )
        ]
        if ledger.verdict:
            total.append(cell(self.quiet(ledger.verdict), LEFT, colspan=columns + 1))
        parts = [
            "".join(f"<TR>{r}</TR>" for r in part) for part in (head, routes, total)
        ]
        body = "<HR/>".join(filter(None, parts))
        return (
            '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3" '
            f'COLOR="{self.theme.border}">{body}</TABLE>'
        )

    def _line(self, head: str, entries) -> str:
        width = 2 * HALF_BAR + 10
        return cell(head, LEFT) + "".join(cell(e, RIGHT, width=width) for e in entries)

    def _entries(self, ledger: Ledger, values) -> list[str]:
        signed = not ledger.unit
        return [
            number(v, sign=signed) if abs(v) > ledger.residue else "0" for v in values
        ]

    def _route(
        self, ledger: Ledger, group: str, name: str, values, columns: int
    ) -> str:
        color = self.theme.text_of(group)
        head = text(name, color, 12, bold=True)
        if values is None:
            cut = text("· · · · · · · ✕  cut", color, 12)
            return cell(head, LEFT) + cell(cut, RIGHT, colspan=columns)
        return self._line(head, (text(e, color) for e in self._entries(ledger, values)))

    def _balances(self, ledger: Ledger) -> list[str]:
        rows = [
            (group, values) for group, _, values in ledger.rows if values is not None
        ]
        if ledger.unit:
            # Norms have no sign: what is not direct is drawn as working against it.
            rows = [
                (g, [v if g == DIRECT else -v for v in values]) for g, values in rows
            ]
        scale = max((abs(v) for _, values in rows for v in values), default=0) or 1
        return [
            self._balance_of(
                [(g, values[i] / scale) for g, values in rows], net / scale
            )
            for i, net in enumerate(ledger.total)
        ]

    def _balance_of(self, parts: list[tuple[str, float]], net: float) -> str:
        """What pulls to the left, what to the right, and a diamond at what remains."""
        color = self.theme.of
        down = [(color(g), -v * HALF_BAR) for g, v in parts if v * HALF_BAR <= -1]
        up = [(color(g), v * HALF_BAR) for g, v in parts if v * HALF_BAR >= 1]
        left = block(None, HALF_BAR - sum(w for _, w in down))
        right = block(None, HALF_BAR - sum(w for _, w in up))
        before, after = ("".join(block(*part) for part in side) for side in (down, up))
        diamond = cell(self.ink("◆", 10), width=9, height=14)
        zero = block(self.theme.quiet, 1, 14)
        if net * HALF_BAR >= 1:
            middle = before + zero + after + diamond
        elif net * HALF_BAR <= -1:
            middle = diamond + before + zero + after
        else:
            middle = before + diamond + after
        return table([left + middle + right], padding=0)

    # --- Chains -----------------------------------------------------------------------

    def sheet(self, sheet: Sheet) -> str:
        """A line per route: its name, its boxes, what it brings; then the total."""
        rows = []
        for chain in sheet.chains:
            color = self.theme.text_of(chain.group)
            name = text(f"{chain.label}   ", color, 13, bold=True)
            arrives = self._arrives(chain, sheet, color)
            rows.append(
                cell(name, LEFT) + cell(self.chain(chain, sheet), RIGHT) + arrives
            )
        columns = len(sheet.total)
        line = table([block(self.theme.ink, 64 * columns, 2)], padding=0)
        rows.append(cell() + cell() + cell(line, colspan=columns))
        total = (self.ink(self._entry(v, sheet), 14, bold=True) for v in sheet.total)
        of = self.ink(f"{sheet.of}   ", 14, bold=True)
        rows.append(cell() + cell(of, RIGHT) + "".join(cell(e, RIGHT) for e in total))
        return label(table(rows, spacing=4, padding=3))

    def _arrives(self, chain: Chain, sheet: Sheet, color: str) -> str:
        if chain.cut:
            return cell(
                text("✕  cut", color, 13, bold=True), RIGHT, colspan=len(sheet.total)
            )
        return "".join(
            cell(text(self._entry(v, sheet), color, 13, bold=True), RIGHT, width=60)
            for v in chain.entries
        )

    def _entry(self, value: float, sheet: Sheet) -> str:
        return number(value, sign=True) if abs(value) > sheet.residue else "0"

    def chain(self, chain: Chain, sheet: Sheet) -> str:
        """Boxes joined by arrows, with the local factors above the arrows."""
        broken = chain.cut or all(abs(v) <= sheet.residue for v in chain.entries)
        cells = []
        for factor, title, kind in chain.links:
            if cells:
                cells.append(cell(self._joint(factor, chain.group, broken)))
            cells.append(cell(self._pill(title, kind)))
        return table(["".join(cells)], padding=0)

    def _pill(self, title: str, kind: str) -> str:
        theme, color = self.theme, self.theme.ink
        border, fill = theme.border, theme.operation
        if kind == "leaf":
            border, fill = theme.leaf_border, theme.leaf
        elif kind:
            border, color = theme.of(kind), theme.text_of(kind)
        title = title.replace("\n", " ")
        wide = sum(east_asian_width(letter) in "WF" for letter in title)
        width, words = 10 + 8 * (len(title) + wide), text(title, color, 12, bold=True)
        inner = cell(words, width=width + 4, height=22, fixedsize="TRUE")
        size = {"width": width + 8, "height": 26, "fixedsize": "TRUE"}
        return rounded([inner], border, fill, 2, padding=0, **size)

    def _joint(self, factor: str, group: str, broken: bool) -> str:
        color = self.theme.of(group)
        dashes = (block(color, 5, 4) + block(None, 3, 4)) * 3
        shaft = table([dashes if broken else block(color, 24, 4)], padding=0)
        # Unless its size is fixed, a table is stretched, and shaft and head part.
        fixed = {"width": 40, "height": 16, "fixedsize": "TRUE"}
        arrow = table([cell(shaft) + cell(text("►", color, 11))], padding=0, **fixed)
        words = [cell(self.quiet(f"  {part}  ", 9)) for part in factor.split(", ")]
        # As much room below as above: the arrow is at the height of the boxes.
        below = cell(height=12 * len(words))
        return table([*words, cell(arrow), below], padding=0)

    # --- Arrows -----------------------------------------------------------------------

    def chip(self, words: str, group: str, factor: str = "") -> str:
        """What travels and what it is multiplied by, clear of the arrow beside it."""
        lines = [cell(text(f" {words} ", self.theme.text_of(group), 11, bold=True))]
        lines += [
            cell(self.quiet(f" {part} ", 9)) for part in factor.split(", ") if part
        ]
        chip = rounded(lines, self.theme.of(group), self.theme.background)
        space = cell(width=6)
        return label(table([space + cell(chip) + space], padding=2))

"""The routes to a leaf as chains of boxes, broken into lines that fit on a page.

This file comes after ``strips.py`` in the reading order; ``labels.py`` is next.

Left out on purpose: nodes of Graphviz. A sheet is one table, so that its lines are in
order and aligned.
"""

from typing import Any

from .markup import (
    LEFT,
    RIGHT,
    RULE,
    address,
    block,
    cell,
    rounded,
    table,
    text,
    width_of,
)
from .scene import Chain, Link, Row, Sheet
from .theme import Theme

LINE, ENTRY, PILL = 800, 68, 26  # the width of a line and an entry, a box's height
Size = dict[str, Any]


class Sheets:
    """The label of a sheet, in one theme."""

    def __init__(self, theme: Theme):
        self.theme = theme

    def sheet(self, sheet: Sheet, name: str) -> str:
        """A header and the boxes of each route, then the total.

        Each value has an id that begins with the ``name`` of the box.
        """
        rows: list[str] = []
        if sheet.columns:
            heads = [
                cell(text(h, self.theme.quiet, 11), RIGHT, width=ENTRY)
                for h in [*sheet.columns, "norm"]
            ]
            rows.append(self._header(self.theme.ink, "", heads))
        for i, chain in enumerate(sheet.chains, 1):
            color = self.theme.text_of(chain.row.group)
            rows.append(self._numbers(chain.row, color, f"{name}_row{i}"))
            broken = not any(chain.row.entries or [])
            rows += [self._line(x, chain.row.group, broken) for x in _lines(chain)]
            rows.append(RULE)
        last = f"{name}_row{len(sheet.chains) + 1}"
        rows.append(self._numbers(sheet.total, self.theme.ink, last))
        cells = (row if row == RULE else cell(row, LEFT) for row in rows)
        return table(cells, padding=6, color=self.theme.border)

    def _numbers(self, row: Row, color: str, name: str) -> str:
        """The label of a route or of the total, and its entries."""
        cells = [
            cell(text(e, color, 14, bold=True), RIGHT, width=ENTRY, **address(name, k))
            for k, e in enumerate(row.numbers())
        ]
        if row.entries is None:
            cells = [cell(text("✕  cut", color, 14, bold=True), RIGHT, width=ENTRY)]
        return self._header(color, row.label, cells)

    def _header(self, color: str, label: str, cells: list[str]) -> str:
        """A label on the left and cells on the right, as wide as the page."""
        name = text(label, color, 14, bold=True)
        left = cell(name, LEFT, width=LINE - ENTRY * len(cells))
        return table([left + "".join(cells)], padding=0)

    def _line(self, links: list[Link], group: str, broken: bool) -> str:
        """Boxes joined by arrows, with the factors in a row above the arrows."""
        above, below, width, parts = [], [], 0, 1
        for i, link in enumerate(links):
            if i > 0:
                factors = _parts(link.factor)
                factor = text("\n".join(factors), self.theme.quiet, 11)
                joint = _joint_width(link.factor)
                above.append(cell(factor, valign="BOTTOM"))
                below.append(cell(self._arrow(joint, group, broken), width=joint))
                width, parts = width + joint, max(parts, len(factors))
            above.append(cell())
            below.append(cell(self._pill(link)))
            width += _pill_width(link.title)
        # Graphviz stretches a table unless its size is fixed.
        size: Size = {"width": width, "height": PILL + 15 * parts, "fixedsize": "TRUE"}
        rows = ["".join(above), "".join(below)]
        return table(rows, padding=0, align=LEFT, **size)

    def _pill(self, link: Link) -> str:
        theme, color = self.theme, self.theme.ink
        border, fill = theme.border, theme.operation
        if link.kind == "leaf":
            border, fill = theme.leaf_border, theme.leaf
        elif link.kind:
            border, color = theme.of(link.kind), theme.text_of(link.kind)
        width, title = _pill_width(link.title), text(link.title, color, 12, bold=True)
        inner = cell(title, width=width - 8, height=22, fixedsize="TRUE")
        size: Size = {"width": width, "height": PILL, "fixedsize": "TRUE"}
        return rounded([inner], border, fill, 2, padding=0, **size)

    def _arrow(self, width: int, group: str, broken: bool) -> str:
        color, length = self.theme.of(group), width - 16
        dashes = (block(color, 5, 4) + block(None, 3, 4)) * (length // 8)
        shaft = table([dashes if broken else block(color, length, 4)], padding=0)
        head = cell(text("►", color, 11))
        size: Size = {"width": width, "height": 16, "fixedsize": "TRUE"}
        return table([cell(shaft) + head], padding=0, **size)


def _lines(chain: Chain) -> list[list[Link]]:
    """The links in lines that fit on a page; each line repeats the box before it."""
    lines: list[list[Link]] = []
    room = 0.0
    for link in chain.links:
        width = _pill_width(link.title) + _joint_width(link.factor)
        if not lines:
            lines.append([link])
            room = LINE - width
        elif width > room:
            before = lines[-1][-1]
            lines.append([before, link])
            room = LINE - width - _pill_width(before.title)
        else:
            lines[-1].append(link)
            room -= width
    return lines


def _parts(factor: str) -> list[str]:
    return factor.split(", ")


def _pill_width(title: str) -> int:
    return round(width_of(title, 12, bold=True)) + 18


def _joint_width(factor: str) -> int:
    widest = max(width_of(part, 11) for part in _parts(factor))
    return max(36, round(widest) + 8)

"""The routes to a leaf as chains of boxes, broken into lines that fit on a page."""

from .markup import RULE, block, cell, rounded, table, text, width_of
from .scene import Chain, Row, Sheet, number, size_text
from .theme import Theme

PAGE = 800
LEFT, RIGHT = "LEFT", "RIGHT"


class Sheets:
    """The label of a sheet, in one theme."""

    def __init__(self, theme: Theme):
        self.theme = theme

    def sheet(self, sheet: Sheet) -> str:
        """For each route its name and what arrives, and its boxes below; then the total."""
        rows: list[str] = []
        if sheet.columns:
            heads = [*sheet.columns, "norm"]
            words = "".join(cell(text(h, self.theme.quiet, 11), RIGHT) for h in heads)
            rows.append(cell() + words)
        columns = len(sheet.total.entries or []) + bool(sheet.columns)
        for chain in sheet.chains:
            color = self.theme.text_of(chain.row.group)
            name = text(chain.row.label, color, 14, bold=True)
            rows.append(cell(name, LEFT) + self._arrives(chain.row, columns, color))
            broken = not any(chain.row.entries or [])
            for line in _lines(chain):
                picture = self._line(line, chain.row.group, broken)
                rows.append(cell(picture, LEFT, colspan=columns + 1))
            rows.append(RULE)
        of = text(sheet.total.label, self.theme.ink, 15, bold=True)
        rows.append(
            cell(of, LEFT) + self._arrives(sheet.total, columns, self.theme.ink)
        )
        return table(rows, padding=4, color=self.theme.border)

    def _arrives(self, row: Row, columns: int, color: str) -> str:
        if row.entries is None:
            return cell(text("✕  cut", color, 14, bold=True), RIGHT, colspan=columns)
        words = [number(v, sign=True) for v in row.entries]
        words += [] if row.norm is None else [size_text(row.norm)]
        return "".join(
            cell(text(w, color, 14, bold=True), RIGHT, width=64) for w in words
        )

    def _line(self, links: list, group: str, broken: bool) -> str:
        cells = []
        for factor, title, kind in links:
            if factor is not None:
                cells.append(cell(self._joint(factor, group, broken)))
            cells.append(cell(self._pill(title, kind)))
        return table(["".join(cells)], padding=0)

    def _pill(self, title: str, kind: str) -> str:
        theme, color = self.theme, self.theme.ink
        border, fill = theme.border, theme.operation
        if kind == "leaf":
            border, fill = theme.leaf_border, theme.leaf
        elif kind:
            border, color = theme.of(kind), theme.text_of(kind)
        words = text(title, color, 12, bold=True)
        inner = cell(words, width=_pill_width(title) - 8, height=22, fixedsize="TRUE")
        size = {"width": _pill_width(title), "height": 26, "fixedsize": "TRUE"}
        return rounded([inner], border, fill, 2, padding=0, **size)

    def _joint(self, factor: str, group: str, broken: bool) -> str:
        color, width = self.theme.of(group), _joint_width(factor)
        shaft_width = width - 16
        dashes = (block(color, 5, 4) + block(None, 3, 4)) * (shaft_width // 8)
        shaft = table([dashes if broken else block(color, shaft_width, 4)], padding=0)
        # Unless its size is fixed, a table is stretched, and shaft and head part.
        fixed = {"width": width, "height": 16, "fixedsize": "TRUE"}
        arrow = table([cell(shaft) + cell(text("►", color, 11))], padding=0, **fixed)
        words = [cell(text(part, self.theme.quiet, 11)) for part in _parts(factor)]
        # As much room below as above: the arrow is at the height of the boxes.
        below = cell(height=14 * len(words))
        return table([*words, cell(arrow), below], padding=0)


def _lines(chain: Chain) -> list[list[tuple[str | None, str, str]]]:
    """The links in lines that fit on a page; each line repeats the box before it."""
    lines: list[list[tuple[str | None, str, str]]] = []
    room = 0.0
    for factor, title, kind in chain.links:
        width = _pill_width(title) + _joint_width(factor)
        if not lines:
            lines.append([(None, title, kind)])
            room = PAGE - width
        elif width > room:
            _, before, kind_before = lines[-1][-1]
            lines.append([(None, before, kind_before), (factor, title, kind)])
            room = PAGE - width - _pill_width(before)
        else:
            lines[-1].append((factor, title, kind))
            room -= width
    return lines


def _parts(factor: str) -> list[str]:
    return factor.split(", ")


def _pill_width(title: str) -> int:
    return round(width_of(title, 12, bold=True)) + 18


def _joint_width(factor: str) -> int:
    widest = max(width_of(part, 11) for part in _parts(factor))
    return max(36, round(widest) + 8)

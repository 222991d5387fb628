"""How the routes of a gradient are shown: a table, as text and in notebooks.

    row       the routes with the same gates, and the sum of their gradients
    around    the row of routes that pass no batch norm, where others do
    shown     a gradient with 0 in place of what is only rounding
    residue   the largest entry that is shown as 0

``routes.py`` computes what is shown here.

This file comes after ``gates.py`` in the reading order; ``routes.py`` is next.

Left out on purpose: the small entries of a long vector. ``Route.gradient`` has them.
"""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .errors import describe
from .graph import largest_finite
from .kernels import norm
from .tensor import Tensor

MANY, LARGEST = 6, 4
LEFT = 'style="text-align:left"'


class Row(NamedTuple):
    """What identifies a row: whether it leads around batch norm, and its gates."""

    around: bool
    gates: tuple[str, ...]

    def __str__(self) -> str:
        if self.gates:
            return "via " + ", then ".join(self.gates)
        return "around" if self.around else "direct"


@dataclass(frozen=True, eq=False)
class Route:
    """A row of the table: the gradient that arrives by the routes that pass ``gates``.

    ``gates`` are names, from the loss to the leaf. ``gradient`` is shaped like the
    leaf, and ``shown`` is the same with 0 in place of rounding. ``cut`` means that
    ``stop_gradient`` interrupts every route of the row. ``note`` explains what may
    surprise a reader, such as a row of zeros. A row that stands for several others,
    the smallest of a long table, says how many are ``merged``.
    """

    gates: tuple[str, ...]
    gradient: np.ndarray
    shown: np.ndarray = field(repr=False)
    cut: bool = False
    around: bool = False
    note: str = ""
    merged: int = 1

    def __str__(self) -> str:
        if self.merged > 1:
            return f"{self.merged} other rows"
        return str(Row(self.around, self.gates))


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The routes from ``y`` to ``leaf``: iterate over them, or print the table.

    ``total`` is the sum of the routes, the gradient of the leaf, and ``shown_total``
    the same with 0 in place of rounding. ``hint`` names gates that would separate
    routes that share a row.
    """

    y: Tensor
    leaf: Tensor
    leaf_name: str
    routes: tuple[Route, ...]
    total: np.ndarray
    shown_total: np.ndarray
    hint: str = ""

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def __getitem__(self, i: int) -> Route:
        return self.routes[i]

    @property
    def scale(self) -> float:
        """The largest finite entry of any route."""
        return max((largest_finite(r.gradient) for r in self.routes), default=0.0)

    @property
    def residue(self) -> float:
        """The largest entry that is shown as 0 because it is only rounding."""
        pairs = [(r.gradient, r.shown) for r in self.routes]
        pairs.append((self.total, self.shown_total))
        return max(largest_finite(gradient[shown == 0]) for gradient, shown in pairs)

    @property
    def cancels(self) -> bool:
        """Whether gradients arrive, but their sum is zero up to rounding."""
        return any(r.shown.any() for r in self.routes) and not self.shown_total.any()

    # --- The table --------------------------------------------------------------------

    @property
    def heading(self) -> str:
        """The heading above the entries: what they are, and which of them are shown."""
        gradient = f"contribution to d{self.y.name or 'L'}/d{self.leaf_name}"
        if self.leaf.size <= MANY:
            return gradient
        return f"{gradient}, the {LARGEST} largest of {self.leaf.size:,} entries"

    def columns(self) -> list[tuple[int, ...]]:
        """The indices of the entries to show: all if they are few, or the largest."""
        return largest_entries((r.gradient for r in self.routes), self.leaf.shape)

    def heads(self) -> list[str]:
        """The column headings, which are needed only if some entries are left out."""
        if self.leaf.size <= MANY:
            return []
        indices = (",".join(map(str, index)) for index in self.columns())
        return [*(f"[{index}]" for index in indices), "norm"]

    def rows(self) -> Iterator[tuple[str, list[str], str]]:
        """The rows of the table: a label, the entries as text, and a note."""
        columns = self.columns()
        for route in self.routes:
            cells = ["cut"] if route.cut else _cells(route.shown, columns)
            yield str(route), cells, route.note
        yield "total", _cells(self.shown_total, columns), ""

    def remarks(self) -> list[str]:
        """What the table leaves out, in at most two lines."""
        if not self.routes:
            y, leaf = describe(self.y), describe(self.leaf)
            return [f"no route: {y} does not depend on {leaf}"]
        found = [self.hint] if self.hint else []
        if self.residue > 1e-12 * self.scale:
            found.append(f"0 stands for rounding residue of up to {self.residue:.1g}")
        return found

    def __str__(self) -> str:
        rows = [*([("", self.heads(), "")] if self.heads() else []), *self.rows()]
        width = max(len("route"), *(len(label) for label, _, _ in rows))
        column = max((len(cell) for _, cells, _ in rows for cell in cells), default=1)
        lines = [f"{'route':<{width}}   {self.heading}"]
        for label, cells, note in rows:
            entries = "  ".join(f"{cell:>{column}}" for cell in cells)
            lines.append(f"{label:<{width}}   {entries}   {note}".rstrip())
        return "\n".join([*lines, *self.remarks()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows, heads = list(self.rows()), self.heads()
        count = max(len(cells) for _, cells, _ in rows)
        heading = f'<th colspan="{count}">{html.escape(self.heading)}</th>'
        lines = [f"<tr><th {LEFT}>route</th>{heading}</tr>"]
        if heads:
            lines.append(f"<tr><th></th>{''.join(f'<th>{h}</th>' for h in heads)}</tr>")
        for label, cells, note in rows:
            span = f' colspan="{count}"' if len(cells) < count else ""
            entries = "".join(f"<td{span}>{html.escape(cell)}</td>" for cell in cells)
            entries += f"<td>{html.escape(note)}</td>" if note else ""
            lines.append(f"<tr><td {LEFT}>{html.escape(label)}</td>{entries}</tr>")
        remarks = "".join(f"<p>{html.escape(line)}</p>" for line in self.remarks())
        return f"<table>{''.join(lines)}</table>{remarks}"


def largest_entries(
    gradients: Iterable[np.ndarray], shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The indices of all entries, or of the largest of any gradient if there are many.

    Entries that are not finite count as the largest.
    """
    sizes = np.zeros(shape)
    for g in gradients:
        sizes = np.maximum(sizes, np.where(np.isfinite(g), abs(g), np.inf))
    chosen = np.arange(sizes.size)
    if sizes.size > MANY:
        chosen = np.sort(np.argsort(-sizes.ravel(), kind="stable")[:LARGEST])
    return [tuple(map(int, np.unravel_index(i, shape))) for i in chosen]


def _cells(gradient: np.ndarray, columns: list[tuple[int, ...]]) -> list[str]:
    cells = [_entry(float(gradient[index])) for index in columns]
    if gradient.size > MANY:
        cells.append(f"{norm(gradient):.4g}")
    return cells


def _entry(value: float) -> str:
    if value == 0 or np.isnan(value):
        return f"{abs(value):.0f}"
    return f"{value:+.4f}" if 5e-4 <= abs(value) < 1e4 else f"{value:+.1e}"

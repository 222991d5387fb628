"""The content of a drawing as data: boxes, arrows, and the gradients along the arrows.

    box        a tensor with what it absorbed, or a folded call of a module
    absorbed   an unnamed operation drawn as part of its only consumer's formula
    arrow      data going forward from one box to another
    stream     the gradient that goes back along an arrow, one per group of routes
    group      the routes that share their first gate: ``direct``, ``E[x]``, ...
    ledger     value, one row per group, balance and total of a trainable leaf
    alarm      where NaN or infinity first appears
    frame      a call of a composite or module that is drawn open, around its boxes

This file imports no other, and knows nothing of Graphviz: ``dot.py`` turns a scene
into DOT text. ``flow.py`` is next in the reading order.

Left out on purpose: positions and colors, which ``dot.py`` and Graphviz choose.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

COMMON, DIRECT, AROUND = "common", "direct", "around"


@dataclass
class Tiles:
    """Values as small colored tiles under a heading, and the sums of their columns."""

    heading: str
    values: np.ndarray
    sums: np.ndarray | None = None


@dataclass
class Row:
    """A line of a ledger or sheet: entries of a gradient, and its norm.

    ``entries`` is None where the route is cut. ``norm`` is None where the entries are
    the whole gradient.
    """

    group: str
    label: str
    entries: list[float] | None
    norm: float | None = None

    def numbers(self) -> list[str]:
        """The entries as text, then the norm, if any."""
        entries = [number(v, sign=True) for v in self.entries or []]
        return entries if self.norm is None else [*entries, size_text(self.norm)]


@dataclass
class Ledger:
    """The gradient of a leaf: its values, a row per group of routes, and the total.

    ``of`` names the gradient. ``columns`` are the indices of the entries shown, if they
    are not all. ``remark`` is one sentence about the whole.
    """

    values: list[float]
    rows: list[Row]
    total: Row
    of: str
    columns: list[str] = field(default_factory=list)
    remark: str = ""


class Link(NamedTuple):
    """A box that a route passes, and what multiplies the gradient on the way to it.

    ``kind`` is ``leaf`` for the leaf, and the name of the gate for a gate.
    """

    factor: str
    title: str
    kind: str


@dataclass
class Chain:
    """A route as the boxes that it passes."""

    row: Row
    links: list[Link]


@dataclass
class Sheet:
    """All routes to a leaf, one chain below the other, and their total."""

    chains: list[Chain]
    total: Row
    columns: list[str] = field(default_factory=list)


@dataclass
class Bar:
    """A parameter in a folded module: the norm of its gradient.

    ``parts`` are the norms of the routes that cancel, by group, if the gradient is 0.
    """

    name: str
    shape: str
    norm: float
    parts: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Box:
    """One node: ``kind`` is leaf, data, op, rest or output."""

    key: int
    kind: str
    title: str
    formula: str = ""
    note: str = ""
    group: str = ""
    operation: str = ""
    tiles: list[Tiles] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    ledger: Ledger | None = None
    sheet: Sheet | None = None
    bars: list[Bar] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    tooltip: str = ""

    def equation(self) -> str:
        """The title and the formula, as in ``x = a + b``, or the one that there is."""
        return " = ".join(filter(None, (self.title, self.formula)))


@dataclass
class Stream:
    """A gradient that flows back, with its text and its local factor."""

    group: str
    norm: float
    amount: str = ""
    factor: str = ""
    cancels: bool = False
    cut: bool = False
    tooltip: str = ""


@dataclass
class Arrow:
    """Data forward from box ``tail`` to box ``head``, gradients back."""

    tail: int
    head: int
    streams: list[Stream] = field(default_factory=list)


@dataclass
class Frame:
    """A call that is drawn open: its title, and the boxes and frames directly in it."""

    title: str
    note: str = ""
    boxes: list[int] = field(default_factory=list)
    frames: list["Frame"] = field(default_factory=list)


@dataclass
class Scene:
    """A whole drawing. ``top`` is the frame of everything and is not drawn itself."""

    boxes: list[Box]
    arrows: list[Arrow]
    top: Frame
    title: str = ""


def number(value: float, places: int = 2, sign: bool = False) -> str:
    """A number as pictures show it: short, with a true minus sign.

    With ``sign``, it is always signed and has the same number of places.
    """
    value = float(value) + 0.0  # -0.0 becomes 0.0.
    if not np.isfinite(value):
        text = {"nan": "NaN", "inf": "+∞" if sign else "∞", "-inf": "-∞"}[str(value)]
    elif value and not 0.5 * 10**-places <= abs(value) < 1e4:
        mantissa, _, power = f"{value:{'+' if sign else ''}.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(power)}"
    elif sign and not value:
        text = "0"
    else:
        text = f"{value:{'+' if sign else ''}.{places}f}"
        text = text if sign or not places else text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def size_text(norm: float) -> str:
    """A norm as pictures show it: with two places, so that columns line up."""
    return number(norm, sign=True).removeprefix("+")


def shape_text(shape: Iterable[int]) -> str:
    """A shape as pictures show it: ``scalar``, ``(3,)``, ``(4, 3)``."""
    return str(tuple(shape)) if tuple(shape) else "scalar"


def values_text(values: np.ndarray) -> str:
    """Values as tooltips show them, whatever NumPy is set to print."""
    return np.array2string(
        values, max_line_width=75, precision=4, suppress_small=False, separator=", ",
        threshold=50, edgeitems=3, sign="-", floatmode="maxprec",
    )  # fmt: skip


def typeset(name: str) -> str:
    """A name with the letters of the literature: gamma as γ, x_hat as x̂."""
    head, dot, last = name.rpartition(".")
    letters = {"gamma": "γ", "beta": "β", "x_hat": "x̂", "eps": "ε", "sigma": "σ"}
    return head + dot + letters.get(last, last)

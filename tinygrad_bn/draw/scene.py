"""What a drawing shows, as data: boxes, arrows, and the gradient streams beside them.

==================  ====================================================================
box                 a tensor with what it absorbed, or a folded call of a module
absorbed            an unnamed operation drawn as part of its only consumer's formula
arrow               data going forward from one box to another
stream              the gradient that goes back along an arrow, one per group of routes
group               the routes that share their first gate: ``direct``, ``E[x]``, ...
ledger              value, one row per group, balance and total of a trainable leaf
frame               a call of a composite or module that is drawn open, around its boxes
==================  ====================================================================

This file knows nothing of Graphviz: ``dot.py`` turns a scene into DOT text.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

COMMON, DIRECT = "common", "direct"


@dataclass
class Tiles:
    """Values as small colored tiles under a heading, with sums over the rows if
    given."""

    heading: str
    values: np.ndarray
    sums: np.ndarray | None = None


@dataclass
class Ledger:
    """The gradient of a leaf: its values, a row ``(group, label, entries)`` per group
    of routes, None for entries where it is cut, the total, and one sentence.

    ``of`` names the gradient; ``unit`` says what the entries are, if not the elements.
    """

    values: list[float]
    rows: list[tuple[str, str, list[float] | None]]
    total: list[float]
    residue: float
    of: str
    unit: str = ""
    verdict: str = ""


@dataclass
class Chain:
    """A route as the boxes it passes: links ``(factor before it, title, gate or
    kind)``."""

    label: str
    group: str
    links: list[tuple[str, str, str]]
    entries: list[float]
    cut: bool


@dataclass
class Sheet:
    """All routes to a leaf, one chain below the other, and their total."""

    chains: list[Chain]
    total: list[float]
    residue: float
    of: str


@dataclass
class Bar:
    """A parameter in a folded module: the norm of its gradient, and the parts that
    cancel."""

    name: str
    shape: str
    norm: float
    parts: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Box:
    """One node: ``kind`` is leaf, data, op, gate, module, rest or output."""

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
    tooltip: str = ""


@dataclass
class Stream:
    """A gradient on its way back: what travels (``chip``) and what it is multiplied
    by."""

    group: str
    norm: float
    chip: str = ""
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
    """A call that is drawn open: its title, the boxes directly in it, the frames in
    it."""

    title: str
    note: str = ""
    boxes: list[int] = field(default_factory=list)
    frames: list["Frame"] = field(default_factory=list)


@dataclass
class Scene:
    """A whole drawing. ``top`` is the frame of everything, which is not drawn
    itself."""

    boxes: list[Box]
    arrows: list[Arrow]
    top: Frame
    title: str = ""


def number(value: float, places: int = 2, sign: bool = False) -> str:
    """A number as pictures write it: short, with a real minus sign.

    With ``sign``, always signed and with the same number of places.
    """
    value = float(value)
    if not np.isfinite(value):
        text = {"nan": "nan", "inf": "∞", "-inf": "-∞"}[str(value)]
    elif value and not 0.5 * 10**-places <= abs(value) < 1e4:
        mantissa, _, power = f"{value:{'+' if sign else ''}.1e}".partition("e")
        text = f"{mantissa.removesuffix('.0')}e{int(power)}"
    else:
        text = f"{value:{'+' if sign else ''}.{places}f}"
        text = text if sign or not places else text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def shape_text(shape: Iterable[int]) -> str:
    """A shape as pictures write it: ``scalar``, ``(3,)``, ``(4, 3)``."""
    return str(tuple(shape)) if tuple(shape) else "scalar"


def typeset(name: str) -> str:
    """A name with the letters of the literature: gamma as γ, x_hat as x̂."""
    head, dot, last = name.rpartition(".")
    letters = {"gamma": "γ", "beta": "β", "x_hat": "x̂", "eps": "ε", "sigma": "σ"}
    return head + dot + letters.get(last, last)

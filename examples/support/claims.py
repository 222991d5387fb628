"""Claims: what an experiment must show, together with what was measured.

A claim is a statement with a lower and an upper bound for every measured value. There
are two kinds:

derived   The value follows from a derivation and does not depend on the seed. The
          engine must reproduce it up to rounding, or up to a stated order of
          approximation.
claim     The value depends on the seed. The bounds leave room for other seeds and
          machines: theory for wide networks holds within a few percent, and orderings
          hold by a margin.

Each experiment lists its claims in ``parts/<experiment>/claims.py``:

    SEEDS    the values of --seed for which the experiment is run
    claims   from what ``main`` returned for each of these seeds to the claims

``python tools/make_gallery.py --experiments`` runs the experiments and checks them.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from support.tables import span, table


class Claim(NamedTuple):
    """A statement, its measured values, and the bounds between which they must lie."""

    statement: str
    values: list[float]
    low: float = -math.inf
    high: float = math.inf
    derived: bool = False

    @property
    def holds(self) -> bool:
        """Whether there are values, and all are numbers between the bounds."""
        return bool(self.values) and self.number_within == len(self.values)

    @property
    def number_within(self) -> int:
        """How many of the values are numbers between the bounds."""
        return sum(self.low < v < self.high for v in self.values)

    @property
    def bounds(self) -> str:
        if self.low == -math.inf:
            return f"< {self.high:g}"
        if self.high == math.inf:
            return f"> {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


def claim(statement: str, values: Iterable, low=-math.inf, high=math.inf) -> Claim:
    """A claim about any iterable of numbers, arrays included, that depend on a seed."""
    return Claim(statement, [float(v) for v in values], low, high)


def derived(statement: str, values: Iterable, low=-math.inf, high=math.inf) -> Claim:
    """A claim about numbers that a derivation predicts, whatever the seed."""
    return claim(statement, values, low, high)._replace(derived=True)


def checked(claims: Iterable[Claim]) -> str:
    """The claims as tables: those that were derived, and those checked over seeds.

    Raises: ``AssertionError``, with all tables, if a claim does not hold.
    """
    claims = list(claims)
    titles = {True: "Derived, the same for every seed", False: "Checked, over seeds"}
    tables = []
    for kind, title in titles.items():
        rows = [
            (c.statement, span(c.values), c.bounds, "yes" if c.holds else "NO")
            for c in claims
            if c.derived == kind
        ]
        if rows:
            tables.append(table(title, ("", "measured", "must be", "holds"), rows))
    text = "\n\n".join(tables)
    if not all(c.holds for c in claims):
        raise AssertionError(f"a claim does not hold\n\n{text}")
    return text

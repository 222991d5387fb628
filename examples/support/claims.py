"""Claims: what an experiment must show, together with what was measured.

A claim is a statement with a lower and an upper bound for every measured value. The
bounds leave room for other seeds and machines: exact statements hold up to rounding,
theory for wide networks within a few percent, and orderings by a margin.

Each experiment lists its claims in ``parts/<experiment>/claims.py``:

========  ============================================================================
SEEDS     the values of --seed for which the experiment is run
claims    from what ``main`` returned for each of these seeds to the claims
========  ============================================================================

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

    @property
    def holds(self) -> bool:
        """Whether there are values, and all are numbers between the bounds."""
        return bool(self.values) and all(self.low < v < self.high for v in self.values)

    @property
    def bounds(self) -> str:
        if self.low == -math.inf:
            return f"< {self.high:g}"
        if self.high == math.inf:
            return f"> {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


def claim(statement: str, values: Iterable, low=-math.inf, high=math.inf) -> Claim:
    """A claim about any iterable of numbers, arrays included."""
    return Claim(statement, [float(v) for v in values], low, high)


def checked(claims: Iterable[Claim]) -> str:
    """The claims as a table.

    Raises: ``AssertionError``, with the whole table, if a claim does not hold.
    """
    claims = list(claims)
    rows = [
        (c.statement, span(c.values), c.bounds, "yes" if c.holds else "NO")
        for c in claims
    ]
    text = table("Checked, over seeds", ("", "measured", "must be", "holds"), rows)
    if not all(c.holds for c in claims):
        raise AssertionError(f"a claim does not hold\n\n{text}")
    return text

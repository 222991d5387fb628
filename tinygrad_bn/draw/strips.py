"""Bars that show the size of a gradient, and strips that show how routes balance.

This file comes after ``markup.py`` in the reading order; ``sheets.py`` is next.

Left out on purpose: numbers, which stand next to each bar and above each strip.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from .markup import block, cell, table, text
from .scene import DIRECT, Bar, Row
from .theme import Theme

HALF = 22
BAR = 110
DIAMOND = 9


def balance(parts: list[tuple[str, float]], net: float, half: int, theme: Theme) -> str:
    """A strip with a zero line: routes to its left and right, a diamond at their sum.

    ``parts`` are ``(group, share)``, and ``net`` is their sum. The strip ends at 1.
    """
    room = DIAMOND // 2 + 1
    strip: list[str | None] = [None] * (2 * (half + room) + 1)
    zero = half + room
    for sign in (1, -1):
        position = 0.0
        for group, share in parts:
            if share * sign > 0:
                begin, position = position, min(position + abs(share), 1.0)
                for i in range(round(begin * half) + 1, round(position * half) + 1):
                    strip[zero + sign * i] = theme.of(group)
    strip[zero] = theme.ink
    at = zero + round(max(-1.0, min(net, 1.0)) * half)
    before, after = strip[: at - DIAMOND // 2], strip[at + DIAMOND // 2 + 1 :]
    diamond = cell(text("◆", theme.ink, 10), width=DIAMOND, height=13)
    tick: list[str | None] = [None] * len(strip)
    tick[zero] = theme.quiet
    tick_row = table([_runs(tick, 3)], padding=0)
    middle = table([_runs(before, 11) + diamond + _runs(after, 11)], padding=0)
    return table([cell(tick_row), cell(middle), cell(tick_row)], padding=0)


def _runs(strip: Sequence[str | None], height: int) -> str:
    """The pixels of a strip as cells, one for each run of a color."""
    return "".join(
        block(color, len(list(run)), height) for color, run in groupby(strip)
    )


def norm_bar(norm: float, largest: float, theme: Theme) -> str:
    """A norm compared with the largest of the picture, on a pale track."""
    share = norm / largest if largest and np.isfinite(norm) else 0.0
    width = max(round(BAR * min(share, 1.0)), bool(share))
    strip = [theme.direct] * width + [theme.track] * (BAR - width)
    return table([_runs(strip, 11)], padding=0)


def balance_of_bar(bar: Bar, largest: float, theme: Theme) -> str:
    """The routes that cancel: direct to the right, the others to the left."""
    scale = largest or 1.0
    parts = [(g, (s if g == DIRECT else -s) / scale) for g, s in bar.parts]
    return balance(parts, 0.0, (BAR - DIAMOND) // 2 - 1, theme)


def balances(rows: list[Row], total: Row, theme: Theme) -> list[str]:
    """A strip for each entry of a gradient."""
    shares = [(row.group, row.entries) for row in rows if row.entries is not None]
    finite = [abs(v) for _, values in shares for v in values if np.isfinite(v)]
    sums = [
        sum(max(sign * values[i], 0) for _, values in shares)
        for i in range(len(total.entries or []))
        for sign in (1, -1)
    ]
    scale = max([s for s in sums if np.isfinite(s)] + finite, default=0.0) or 1.0
    strips = []
    for i, net in enumerate(total.entries or []):
        parts = [(group, values[i] / scale) for group, values in shares]
        if np.isfinite([share for _, share in parts]).all():
            strips.append(balance(parts, net / scale, HALF, theme))
        else:
            strips.append("")
    return strips

"""The legend of a drawing: a sign and its meaning for each thing that occurs in it.

This file comes after ``labels.py`` in the reading order; ``dot.py`` is next.

Left out on purpose: signs that do not occur in the drawing.
"""

from collections.abc import Iterator

from .labels import Labels
from .markup import LEFT, cell, table, text, width_of
from .scene import AROUND, COMMON, DIRECT, Scene, typeset

_SPACE = "     "


def legend(panels: list[Scene], labels: Labels, width: float) -> str:
    """The legend in lines of about this width, or an empty text."""
    lines: list[str] = []
    room = 0.0
    for sign, color, meaning in dict.fromkeys(_entries(panels, labels)):
        entry = text(sign, color, 13) + labels.quiet(f" {meaning}{_SPACE}")
        needed = width_of(sign, 13) + width_of(f" {meaning}{_SPACE}", 11)
        if needed > room:
            lines.append(entry)
            room = width - needed
        else:
            lines[-1] += entry
            room -= needed
    return table([cell(line, LEFT) for line in lines], padding=3) if lines else ""


def _entries(panels: list[Scene], labels: Labels) -> Iterator[tuple[str, str, str]]:
    theme = labels.theme
    boxes = [box for scene in panels for box in scene.boxes]
    streams = [s for scene in panels for arrow in scene.arrows for s in arrow.streams]
    ledgers = [box.ledger for box in boxes if box.ledger and box.ledger.rows]
    bars = [bar for box in boxes for bar in box.bars]
    chains = [chain for box in boxes if box.sheet for chain in box.sheet.chains]
    drawn = {s.group for s in streams} | {chain.row.group for chain in chains}
    if any(scene.arrows for scene in panels):
        yield "→", theme.arrow, "data forward"
    routed = any(group not in (COMMON, DIRECT) for group in drawn)
    meanings = {
        COMMON: "gradient, all routes",
        DIRECT: "gradient, direct" if routed else "gradient",
        AROUND: "gradient around batch norm",
    }
    sign = "◄▬" if streams else "▬►"  # A sheet reads from the loss to the leaf.
    for group in sorted(drawn, key=lambda g: (g != COMMON, g != DIRECT, g)):
        last = typeset(group.rpartition(".")[2])
        yield sign, theme.of(group), meanings.get(group, f"gradient through {last}")
    listed = {row.group for ledger in ledgers for row in ledger.rows}
    listed |= {group for bar in bars for group, _ in bar.parts}
    last_names = {group.rpartition(".")[2] for group in drawn}
    for group in sorted(listed - {COMMON}):
        last = group.rpartition(".")[2]
        if last not in last_names:
            meaning = last if group in meanings else f"through {typeset(last)}"
            yield "■", theme.of(group), meaning
    if any(s.cancels for s in streams):
        yield "◄╌╌", theme.ink, "sums to 0 over the batch"
    if any(not any(chain.row.entries or []) for chain in chains):
        yield "▬ ▬►", theme.ink, "contributes 0 or is cut"
    rows = [row for ledger in ledgers for row in ledger.rows]
    if any(s.cut for s in streams) or any(row.entries is None for row in rows):
        yield "···✕", theme.ink, "cut by stop_gradient"
    if any(box.kind == "leaf" or box.bars for box in boxes):
        yield "■", theme.leaf_border, "trainable"
    balanced = any(len(ledger.rows) > 1 for ledger in ledgers)
    if balanced or any(bar.parts for bar in bars):
        yield "◆", theme.ink, "sum of the routes"
    if any(box.tiles for box in boxes):
        yield "■", theme.negative, "negative"
        yield "■", theme.positive, "positive"
    if any("±" in line for box in boxes for line in box.text):
        yield "a ± b", theme.quiet, "mean and standard deviation"

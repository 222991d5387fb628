"""The approximate size of a drawing, to choose its direction and to break rows.

Graphviz knows the exact size, but the DOT text must not depend on Graphviz, which may
not be installed.

This file comes after ``labels.py`` in the reading order; ``legend.py`` is next.

Left out on purpose: positions, and the widths of letters in the fonts that are
installed.
"""

from collections import defaultdict

from .labels import entry_width, tile_width
from .markup import width_of
from .scene import Box, Scene, Stream
from .strips import BAR

PAGE = 830  # the width, in points, at which all text is still legible on a page
GAP = 24
STEP = 36
PANEL = 36  # the margins of a panel and the space between two


def width_of_box(box: Box) -> float:
    title = width_of(box.equation(), 14, bold=True) + width_of(box.note, 11) + 12
    if box.operation:
        title += width_of(box.operation, 12, bold=True) + 22
    widths = [title, *(width_of(line, 12) for line in [*box.text, *box.alarms])]
    if box.ledger is not None:
        labels = [row.label for row in box.ledger.rows] + [box.ledger.of, "balance"]
        columns = len(box.ledger.total.entries or []) + bool(box.ledger.columns)
        head = max(width_of(label, 13, bold=True) for label in labels)
        widths += [
            head + columns * (entry_width(box.ledger) + 6) + 8,
            width_of(box.ledger.remark, 11),
        ]
    if box.tiles:
        tiles = (max(map(tile_width, t.values.flat), default=0) + 2 for t in box.tiles)
        widths.append(sum(w * t.values.shape[1] for w, t in zip(tiles, box.tiles)) + 16)
    for bar in box.bars:
        words_width = width_of(bar.name, 12, bold=True) + width_of(bar.shape, 11)
        widths.append(words_width + BAR + 60)
    return max(widths) + 14


def height_of_box(box: Box) -> float:
    lines = 1.0 + len(box.text) + len(box.alarms) + len(box.bars)
    if box.ledger is not None:
        rows = len(box.ledger.rows)
        lines += 2 + bool(box.ledger.columns) + rows + 1.2 * (rows > 1)
        lines += bool(box.ledger.remark)
    if box.tiles:
        lines += 2 + len(box.tiles[0].values)
    return 10 + 21.5 * lines


def width_of_scene(scene: Scene, direction: str) -> float:
    """The width of a scene in this direction, without its title."""
    if scene.boxes and scene.boxes[0].sheet is not None:
        return PAGE
    ranks = _ranks(scene)
    across = direction in ("LR", "RL")
    if not across:
        rows: dict[float, float] = defaultdict(float)
        for box in scene.boxes:
            rows[ranks[box.key]] += width_of_box(box) + GAP
        for arrow in scene.arrows:
            # The labels of an arrow have a rank of their own, between its ends.
            middle = (ranks[arrow.tail] + ranks[arrow.head]) / 2
            rows[middle] += sum(_width_of_stream(s) + 12 for s in arrow.streams)
        return max(rows.values(), default=0)
    columns: dict[int, float] = defaultdict(float)
    for box in scene.boxes:
        rank = ranks[box.key]
        columns[rank] = max(columns[rank], width_of_box(box))
    gaps: dict[int, float] = defaultdict(lambda: STEP)
    for arrow in scene.arrows:
        widest = max(map(_width_of_stream, arrow.streams), default=0)
        rank = ranks[arrow.tail]
        gaps[rank] = max(gaps[rank], widest + 2 * STEP if widest else 0)
    steps = sum(gaps[rank] for rank in range(max(columns, default=0)))
    return sum(columns.values()) + steps


def best_direction(scene: Scene) -> str:
    """The direction: left to right if that fits on a page, or top to bottom."""
    return "LR" if width_of_scene(scene, "LR") <= PAGE else "TB"


def fit_to_page(scene: Scene, direction: str | None) -> None:
    """Remove the values from a picture if they make it too wide for a page."""
    if width_of_scene(scene, direction or best_direction(scene)) > 1.1 * PAGE:
        for box in scene.boxes:
            box.tiles = []


def rows_of_panels(scenes: list[Scene], direction: str) -> list[list[int]]:
    """The panels in rows that fit on a page, with about equally many in each."""
    n = len(scenes)
    if direction in ("LR", "RL"):
        return [list(range(n))]  # Such panels are below each other in any case.
    widths = [
        max(width_of_scene(s, direction), width_of_title(s.title)) + PANEL
        for s in scenes
    ]
    for per_row in range(n, 0, -1):
        rows = [list(range(n))[i : i + per_row] for i in range(0, n, per_row)]
        balanced = len(rows[-1]) * 2 >= per_row
        fits = all(sum(widths[i] for i in row) <= PAGE for row in rows)
        if fits and balanced:
            return rows
    return [[i] for i in range(n)]


def width_of_title(title: str, size: int = 16) -> float:
    first, *others = title.split("\n")
    return max(width_of(first, size, bold=True), *(width_of(o, 12) for o in others), 0)


def _width_of_stream(stream: Stream) -> float:
    if not stream.amount and not stream.cut:
        return 0.0
    lines = [stream.amount or "✕", *stream.factor.split(", ")]
    return max(width_of(line, 12, bold=True) for line in lines) + 24


def _ranks(scene: Scene) -> dict[int, int]:
    """The row, or the column, in which Graphviz is likely to draw each box."""
    ranks = {box.key: 0 for box in scene.boxes}
    users: dict[int, list[int]] = defaultdict(list)
    inputs: dict[int, int] = defaultdict(int)
    # Boxes are numbered so that arrows lead from lower to higher numbers.
    for arrow in sorted(scene.arrows, key=lambda arrow: arrow.head):
        ranks[arrow.head] = max(ranks[arrow.head], ranks[arrow.tail] + 1)
        users[arrow.tail].append(arrow.head)
        inputs[arrow.head] += 1
    # Short arrows are preferred: a box moves toward those that use it.
    for key in sorted(users, reverse=True):
        if len(users[key]) >= inputs[key]:
            ranks[key] = min(ranks[user] for user in users[key]) - 1
    return ranks

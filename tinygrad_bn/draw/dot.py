"""Scenes as DOT text: nodes, arrows, frames, title and legend.

This file comes after ``legend.py`` in the reading order.

Left out on purpose: positions. Graphviz computes them when it draws the picture.
"""

from itertools import pairwise

import graphviz

from .labels import Labels
from .layout import (
    PAGE,
    PANEL,
    height_of_box,
    rows_of_panels,
    width_of_scene,
    width_of_title,
)
from .legend import legend
from .markup import LEFT, block, cell, label, plain, rounded, table, text
from .scene import Arrow, Frame, Scene, Stream
from .theme import Theme

FONT = "Helvetica,Arial,Arimo,Liberation Sans,Nimbus Sans,FreeSans,sans-serif"
NARROWEST, MARGINS = 260, 24  # of the legend


def to_dot(
    panels: list[Scene], theme: Theme, title: str | None, direction: str
) -> graphviz.Digraph:
    """One drawing of one or more scenes, in the order given."""
    labels = Labels(theme, _longest_bar(panels))
    rows = rows_of_panels(panels, direction)
    width = _width(panels, rows, title or "", direction)
    graph = graphviz.Digraph("tinygrad_bn")
    graph.attr(
        rankdir=direction, bgcolor=theme.background, fontname=FONT, labelloc="b",
        labeljust="l", pad="0.15", nodesep="0.3", ranksep="0.35", tooltip=" ",
    )  # fmt: skip
    if below := legend(panels, labels, width):
        graph.attr(label=label(below))
    graph.attr("node", shape="plain", fontname=FONT)
    graph.attr("edge", fontname=FONT, fontsize="11")
    # Panels outside a cluster would not be lined up with each other.
    with graph.subgraph(name="cluster_all") as everything:
        everything.attr(
            label=label(_title(title, labels, 18)) if title else "", labelloc="t",
            labeljust="l", color=theme.background, margin="4", tooltip=" ",
        )  # fmt: skip
        _add_panels(everything, panels, rows, labels, direction)
    return graph


def _longest_bar(panels: list[Scene]) -> float:
    """One scale for all bars of a picture, so that they can be compared."""
    bars = [bar for scene in panels for box in scene.boxes for bar in box.bars]
    sizes = [bar.norm for bar in bars] + [s for bar in bars for _, s in bar.parts]
    return max((s for s in sizes if s < float("inf")), default=0.0)


def _width(
    panels: list[Scene], rows: list[list[int]], title: str, direction: str
) -> float:
    widths = [width_of_scene(scene, direction) for scene in panels]
    across = direction in ("LR", "RL")
    subject = max(widths) if across else max(
        sum(widths[i] + PANEL * (len(panels) > 1) for i in row) for row in rows
    )  # fmt: skip
    return min(max(subject, width_of_title(title, 18), NARROWEST), PAGE - MARGINS)


def _title(title: str, labels: Labels, size: int) -> str:
    first, *others = title.split("\n")
    rows = [cell(labels.ink(first, size, bold=True), LEFT)] if first else []
    rows += [cell(labels.quiet(line, 12), LEFT) for line in others]
    return table(rows or [cell()], padding=3)


# --- Panels ---------------------------------------------------------------------------


def _add_panels(
    graph: graphviz.Digraph,
    panels: list[Scene],
    rows: list[list[int]],
    labels: Labels,
    direction: str,
) -> None:
    several = len(panels) > 1
    if several and all(len(scene.boxes) == 1 for scene in panels):
        cells = [_grid_row({i: panels[i] for i in row}, labels) for row in rows]
        graph.node("grid", label=label(table(cells, spacing=8)), tooltip=" ")
        return
    for i, scene in enumerate(panels):
        _Panel(scene, labels, f"{i}_" if several else "").add_to(graph)
    if several:
        _keep_order(graph, panels, _as_ranked(rows, direction))


def _grid_row(scenes: dict[int, Scene], labels: Labels) -> str:
    """Panels of one box each, lined up by a table; clusters would not line them up."""
    theme = labels.theme
    tallest = max(height_of_box(scene.boxes[0]) for scene in scenes.values())
    panels = []
    for i, scene in scenes.items():
        box = labels.html(scene.boxes[0], f"panel{i}_box0")
        rows = [_title(scene.title, labels, 16), box]
        # Otherwise Graphviz would stretch a panel that is shorter than its neighbors.
        missing = round(tallest - height_of_box(scene.boxes[0])) - 12
        rows += [table([block(None, 1, missing)])] if missing > 0 else []
        cells = (cell(row, LEFT) for row in rows)
        panel = rounded(cells, theme.border, theme.background, spacing=6, padding=2)
        panels.append(cell(panel, LEFT))
    return "".join(panels)


def _as_ranked(rows: list[list[int]], direction: str) -> list[list[int]]:
    """The rows in the order of Graphviz, which may begin at the bottom."""
    if direction in ("LR", "RL"):
        return [row[::-1] for row in rows]
    return rows[::-1] if direction == "BT" else rows


def _keep_order(
    graph: graphviz.Digraph, panels: list[Scene], rows: list[list[int]]
) -> None:
    """Keep the panels in their rows, in the order given.

    Graphviz would choose its own order. So each panel begins with an invisible node:
    those of a row share a rank, and come after everything in the row above.
    """
    unseen = {"style": "invis"}
    for row in rows:
        with graph.subgraph() as rank:
            rank.attr(rank="same")
            for i in row:
                rank.node(f"{i}_", label="", width="0", height="0", **unseen)
            for i, j in pairwise(row):
                rank.edge(f"{i}_", f"{j}_", **unseen)
        for i in row:
            heads = {arrow.head for arrow in panels[i].arrows}
            for box in panels[i].boxes:
                if box.key not in heads:
                    graph.edge(f"{i}_", f"{i}_n{box.key}", **unseen)
    for above, below in pairwise(rows):
        for k, i in enumerate(above):
            under = below[min(k, len(below) - 1)]
            tails = {arrow.tail for arrow in panels[i].arrows}
            for box in panels[i].boxes:
                if box.key not in tails:
                    graph.edge(f"{i}_n{box.key}", f"{under}_", **unseen)


class _Panel:
    """One scene, whose nodes carry a prefix if the drawing has several."""

    def __init__(self, scene: Scene, labels: Labels, prefix: str):
        self.scene, self.labels, self.prefix = scene, labels, prefix
        # Ids say what is drawn; web.py makes attributes of them.
        self.id = f"panel{prefix}" if prefix else ""
        self.theme = labels.theme
        self.frames = 0
        self.kinds = {box.key: box.kind for box in scene.boxes}
        # With a weight, labeled streams would bend the path of the data.
        labeled = any(s.amount for arrow in scene.arrows for s in arrow.streams)
        self.weight = "0" if labeled else "1"

    def add_to(self, graph: graphviz.Digraph) -> None:
        if self.prefix:
            with graph.subgraph(name=f"cluster_{self.prefix}") as cluster:
                cluster.attr(
                    label=label(_title(self.scene.title, self.labels, 16)),
                    labelloc="t", labeljust="l", color=self.theme.border,
                    style="rounded", margin="10", penwidth="0.8", tooltip=" ",
                )  # fmt: skip
                self._fill(cluster, self.scene.top)
        else:
            self._fill(graph, self.scene.top)
        for i, arrow in enumerate(self.scene.arrows):
            self._arrow(graph, arrow, f"{self.id}arrow{i}")

    def _name(self, key: int) -> str:
        return f"{self.prefix}n{key}"

    def _fill(self, graph: graphviz.Digraph, frame: Frame) -> None:
        for i in frame.boxes:
            box = self.scene.boxes[i]
            graph.node(
                self._name(i),
                label=self.labels.box(box, f"{self.id}box{i}"),
                id=f"{self.id}box{i}",
                tooltip=plain(box.tooltip),
                **{"class": box.kind},
            )
        for inner in frame.frames:
            self.frames += 1
            with graph.subgraph(name=f"cluster_{self.prefix}f{self.frames}") as cluster:
                title = text(inner.title, self.theme.quiet, 13, bold=True)
                # Arrows that leave the frame would cross a long line.
                note = inner.note.replace(", ", "\n", 1)
                note = self.labels.quiet(f"  {note}") if note else ""
                cluster.attr(
                    style="dashed,rounded,filled", color=self.theme.border,
                    fillcolor=self.theme.frame, margin="12", labelloc="b",
                    labeljust="r", tooltip=" ", label=label(title + note),
                )  # fmt: skip
                self._fill(cluster, inner)

    def _arrow(self, graph: graphviz.Digraph, arrow: Arrow, name: str) -> None:
        ends = self._name(arrow.tail), self._name(arrow.head)
        kinds = self.kinds[arrow.tail], self.kinds[arrow.head]
        weight = "1" if "leaf" in kinds or "data" in kinds else "4"
        forward = {"class": "forward", "id": name, "tooltip": " ", "weight": weight}
        if any(stream.amount or stream.cut for stream in arrow.streams):
            # A label widens the lane of its stream. Without its own label, the forward
            # arrow would be drawn underneath.
            forward["label"] = self.labels.gap()
        graph.edge(
            *ends, color=self.theme.arrow, penwidth="1.1", arrowsize="0.7", **forward
        )
        for i, stream in enumerate(arrow.streams):
            graph.edge(*ends, id=f"{name}_stream{i}", **self._stream(stream))

    def _stream(self, stream: Stream) -> dict[str, str]:
        style = {
            "dir": "back",
            "color": self.theme.of(stream.group),
            "penwidth": f"{2 + 3.5 * min(stream.norm, 1) ** 0.5:.2f}",
            "arrowsize": "0.75",
            "tooltip": plain(stream.tooltip),
            "class": "stream",
            "weight": self.weight,
        }
        if stream.cut:
            style |= {"style": "dotted", "arrowtail": "none", "penwidth": "4"}
        elif stream.cancels:
            style |= {"style": "dashed", "penwidth": "2.2"}
        if stream.amount or stream.cut:
            style["label"] = self.labels.stream(stream)
        return style

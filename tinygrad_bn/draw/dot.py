"""Scenes as DOT text: nodes, arrows, frames, the heading and its legend."""

import graphviz

from .labels import LEFT, Labels
from .markup import cell, label, plain, table, text
from .scene import COMMON, DIRECT, Arrow, Frame, Scene, Stream, typeset
from .theme import Theme

FONT = "Helvetica,Arial,Arimo,Liberation Sans,Nimbus Sans,FreeSans,sans-serif"


def to_dot(
    panels: list[Scene], theme: Theme, title: str | None, direction: str
) -> graphviz.Digraph:
    """One drawing of one or more scenes, in the order given."""
    graph = graphviz.Digraph("tinygrad_bn")
    graph.attr(
        rankdir=direction, bgcolor=theme.background, fontname=FONT, labelloc="t",
        labeljust="l", pad="0.2", nodesep="0.3", ranksep="0.4", tooltip=" ",
        label=label(_heading(title, panels, Labels(theme), direction)),
    )  # fmt: skip
    graph.attr("node", shape="plain", fontname=FONT)
    graph.attr("edge", fontname=FONT, fontsize="11")
    if len(panels) > 1:
        _keep_order(graph, panels)
    for i, scene in enumerate(panels):
        _Panel(scene, theme, f"{i}_" if len(panels) > 1 else "").add_to(graph)
    return graph


def _keep_order(graph: graphviz.Digraph, panels: list[Scene]) -> None:
    """Graphviz orders panels as it likes; unseen nodes in one rank before them
    decide."""
    with graph.subgraph() as rank:
        rank.attr(rank="same")
        for i in range(len(panels)):
            rank.node(f"{i}_", label="", width="0", height="0", style="invis")
        for i in range(len(panels) - 1):
            rank.edge(f"{i}_", f"{i + 1}_", style="invis")
    for i, scene in enumerate(panels):
        heads = {arrow.head for arrow in scene.arrows}
        for box in scene.boxes:
            if box.key not in heads:
                graph.edge(f"{i}_", f"{i}_n{box.key}", style="invis")


class _Panel:
    """One scene, whose nodes carry a prefix where there are several."""

    def __init__(self, scene: Scene, theme: Theme, prefix: str):
        self.scene, self.theme, self.prefix = scene, theme, prefix
        self.labels = Labels(theme)
        self.frames = 0

    def add_to(self, graph) -> None:
        if self.prefix:
            with graph.subgraph(name=f"cluster_{self.prefix}") as cluster:
                cluster.attr(
                    label=label(table(_title_rows(self.scene.title, self.labels, 16))),
                    color=self.theme.border, style="rounded", margin="14",
                    penwidth="0.8", tooltip=" ",
                )  # fmt: skip
                self._fill(cluster, self.scene.top)
        else:
            self._fill(graph, self.scene.top)
        for arrow in self.scene.arrows:
            self._arrow(graph, arrow)

    def _name(self, key: int) -> str:
        return f"{self.prefix}n{key}"

    def _fill(self, graph, frame: Frame) -> None:
        for i in frame.boxes:
            box = self.scene.boxes[i]
            graph.node(
                self._name(i),
                label=self.labels.box(box),
                tooltip=plain(box.tooltip),
                **{"class": box.kind},
            )
        for inner in frame.frames:
            self.frames += 1
            with graph.subgraph(name=f"cluster_{self.prefix}f{self.frames}") as cluster:
                title = text(inner.title, self.theme.quiet, 13, bold=True)
                note = self.labels.quiet(f"  {inner.note}", 11)
                cluster.attr(
                    style="dashed,rounded,filled", color=self.theme.border,
                    fillcolor=self.theme.frame, margin="14", labeljust="l", tooltip=" ",
                    label=label(title + note),
                )  # fmt: skip
                self._fill(cluster, inner)

    def _arrow(self, graph, arrow: Arrow) -> None:
        ends = self._name(arrow.tail), self._name(arrow.head)
        forward = {"class": "forward", "tooltip": " ", "weight": "2"}
        if any(stream.chip for stream in arrow.streams):
            # A chip widens the lane of its stream; without a label of its own, the
            # arrow forward would be drawn underneath.
            forward["label"] = label(table([cell(width=8, height=1)]))
        graph.edge(
            *ends, color=self.theme.arrow, penwidth="1.1", arrowsize="0.7", **forward
        )
        for stream in arrow.streams:
            graph.edge(*ends, **self._stream(stream))

    def _stream(self, stream: Stream) -> dict[str, str]:
        style = {
            "dir": "back",
            "color": self.theme.of(stream.group),
            "penwidth": f"{2 + 3.5 * min(stream.norm, 1) ** 0.5:.2f}",
            "arrowsize": "0.75",
            "tooltip": plain(stream.tooltip),
            "class": "stream",
        }
        if stream.cut:
            chip = self.labels.chip("✕", stream.group)
            tooltip = plain(f"{stream.group}: cut by stop_gradient")
            dotted = {"style": "dotted", "arrowtail": "none", "penwidth": "4"}
            return style | dotted | {"label": chip, "tooltip": tooltip}
        if stream.cancels:
            style |= {"style": "dashed", "penwidth": "2.2"}
        if stream.chip:
            style["label"] = self.labels.chip(stream.chip, stream.group, stream.factor)
        return style


# --- Heading and legend ---------------------------------------------------------------


def _title_rows(title: str | None, labels: Labels, size: int) -> list[str]:
    first, *others = (title or "").split("\n")
    rows = [cell(labels.ink(first, size, bold=True), LEFT)] if first else []
    return rows + [cell(labels.quiet(line, 12), LEFT) for line in others] or [cell()]


def _heading(
    title: str | None, panels: list[Scene], labels: Labels, direction: str
) -> str:
    columns = 3 if direction in ("TB", "BT") and len(panels) == 1 else 5
    entries = _legend(panels, labels)
    lines = (entries[i : i + columns] for i in range(0, len(entries), columns))
    legend = [cell("".join(line), LEFT) for line in lines]
    return table([*_title_rows(title, labels, 18), *legend], padding=3)


def _legend(panels: list[Scene], labels: Labels) -> list[str]:
    """A sign and its meaning for each thing that occurs, and for nothing else."""
    theme = labels.theme
    boxes = [box for scene in panels for box in scene.boxes]
    streams = [s for scene in panels for arrow in scene.arrows for s in arrow.streams]
    ledgers = [box.ledger for box in boxes if box.ledger and box.ledger.rows]
    parts = [group for box in boxes for bar in box.bars for group, _ in bar.parts]
    chains = [chain for box in boxes if box.sheet for chain in box.sheet.chains]
    groups = {s.group for s in streams} | {chain.group for chain in chains}
    groups |= {row[0] for ledger in ledgers for row in ledger.rows}
    routed = any(group not in (COMMON, DIRECT) for group in groups)
    words = {
        COMMON: "gradient, all routes",
        DIRECT: "gradient, direct route" if routed else "gradient",
    }
    entries: list[str] = []

    def tell(sign: str, color: str, meaning: str) -> None:
        entry = text(sign, color, 13) + labels.quiet(f" {meaning}     ", 11)
        entries.extend([entry] if entry not in entries else [])

    if any(scene.arrows for scene in panels):
        tell("→", theme.arrow, "data forward")
    for group in sorted(groups, key=lambda g: (g != COMMON, g != DIRECT, g)):
        last = typeset(group.rpartition(".")[2])
        tell("◄▬", theme.of(group), words.get(group, f"gradient through {last}"))
    for group in parts:
        if group != DIRECT and group not in groups:
            last = typeset(group.rpartition(".")[2])
            tell("■", theme.of(group), f"the part through {last}")
    if any(s.cancels for s in streams):
        tell("◄╌╌", theme.ink, "not 0 row by row, but the rows sum to 0")
    if chains:
        tell("▬ ▬►", theme.ink, "brings 0, or is cut")
    cut = any(row[2] is None for ledger in ledgers for row in ledger.rows)
    if cut or any(s.cut for s in streams):
        tell("···✕", theme.ink, "cut by stop_gradient")
    if chains or any(box.kind == "leaf" or box.bars for box in boxes):
        tell("■", theme.leaf_border, "trainable")
    if ledgers or parts:
        tell("◆", theme.ink, "what the routes leave")
    if any(box.tiles for box in boxes):
        tell("■", theme.negative, "negative")
        tell("■", theme.positive, "positive")
    if any("±" in line for box in boxes for line in box.text):
        tell("a ± b", theme.quiet, "mean and standard deviation")
    return entries

"""Drawings: on the picture one sees why a gradient is what it is.

The tape becomes data (``places.py``, ``compose.py``: a ``Scene`` of boxes, arrows and
streams), data becomes DOT text (``dot.py``), and Graphviz makes the picture
(``render.py``).

This package comes after ``routes.py`` and ``nn.py`` in the reading order.

Left out on purpose: layout of our own, and interaction beyond tooltips and hovering.
"""

from collections.abc import Iterable
from pathlib import Path

import graphviz

from ..routes import refuse_unexplainable, refuse_unrecorded
from ..tensor import Tensor
from .chains import compose_chains
from .compose import compose
from .dot import to_dot
from .render import NoRenderer, page, render, svg
from .scene import Scene
from .theme import THEMES

_KINDS = ("svg", "png", "pdf", "dot", "html")


class Drawing:
    """A picture of a graph: shown by notebooks, saved by ``save``, text in ``source``.

    ``dot`` is the ``graphviz.Digraph``, for those who want to go on with it; ``panels``
    are the scenes it was made of.
    """

    def __init__(
        self, panels: list[Scene], theme: str, direction: str, title: str | None
    ):
        self.panels, self.theme = panels, theme
        self.direction, self.title = direction, title
        self.dot: graphviz.Digraph = to_dot(panels, THEMES[theme], title, direction)

    @property
    def source(self) -> str:
        """The DOT text, the same for the same graph on every machine."""
        return self.dot.source

    def svg(self) -> str:
        """The picture as SVG text. Raises ``NoRenderer`` where Graphviz is missing."""
        return svg(self.source)

    def save(self, path) -> Path:
        """Write the picture to ``path``, as what its ending says, and return the path.

        ``.svg``, ``.png`` and ``.pdf`` are pictures, ``.html`` is the SVG in a page
        that lights what one points at, ``.dot`` is the text, which needs no renderer.

        Raises: ``ValueError`` for another ending, ``NoRenderer`` where Graphviz is
        missing.
        """
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind not in _KINDS:
            raise ValueError(
                "drawing.save(path): the ending must be one of "
                f"{', '.join(_KINDS)}, but {path.name!r} was received."
            )
        content = self._content(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def _content(self, kind: str) -> bytes | str:
        if kind == "dot":
            return self.source
        if kind == "svg":
            return self.svg()
        if kind == "html":
            theme = THEMES[self.theme]
            title = (self.title or "tinygrad_bn").split("\n")[0]
            return page(self.svg(), title, theme.background, theme.ink)
        return render(self.source, kind)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        try:
            return {"image/svg+xml": self.svg(), "text/plain": repr(self)}
        except Exception as error:  # noqa: BLE001
            # A notebook must show its cell also where no picture can be made.
            return {"text/plain": f"{self!r}\n{error}\n\n{self.source}"}

    def __repr__(self) -> str:
        boxes = sum(len(scene.boxes) for scene in self.panels)
        arrows = sum(len(scene.arrows) for scene in self.panels)
        return f"<Drawing {self.title or ''!r}: {boxes} boxes, {arrows} arrows>"


def draw(
    y: Tensor,
    leaf: Tensor | None = None,
    *,
    gates: Iterable[str] | None = None,
    gradient=None,
    direction: str = "LR",
    theme: str = "light",
    open: Iterable[str] = (),
    max_nodes: int = 40,
    title: str | None = None,
    tiles: bool = True,
    symbols: dict | None = None,
) -> Drawing:
    """Draw the graph behind ``y``; with a ``leaf``, the routes of the gradient to it.

    ``gates`` and ``gradient`` are those of ``explain``. ``direction`` is LR, TB, RL or
    BT, ``theme`` light or dark. ``open`` names modules, composites and fused operations
    to be drawn from the inside; beyond ``max_nodes`` boxes, the operations farthest
    from ``y`` are folded into one. ``title`` may have several lines. ``tiles`` shows
    the values of small tensors. ``symbols`` maps names to arrays: a gradient that
    equals one of them is called so.

    Raises: ``ValueError`` for a ``y`` without history, unknown gates, names or themes,
    a misshapen ``gradient``; ``RuntimeError`` if a leaf changed since it was used.
    """
    refuse_unrecorded("draw", y)
    if leaf is not None:
        refuse_unexplainable("draw", leaf)
    _check(theme, direction)
    scene = compose(y, leaf, gates, gradient, open, max_nodes, tiles, symbols)
    scene.title = title or ""
    return Drawing([scene], theme, direction, title)


def draw_routes(
    y: Tensor,
    leaf: Tensor,
    *,
    gates: Iterable[str] | None = None,
    gradient=None,
    theme: str = "light",
    title: str | None = None,
) -> Drawing:
    """Draw the routes from ``y`` to ``leaf`` as chains, one below the other, with a
    total.

    The parameters and the errors are those of ``draw`` and ``explain``.
    """
    refuse_unrecorded("draw_routes", y)
    refuse_unexplainable("draw_routes", leaf)
    _check(theme, "LR")
    scene = compose_chains(y, leaf, gates, gradient)
    scene.title = title or ""
    return Drawing([scene], theme, "LR", title)


def side_by_side(
    *drawings: Drawing, title: str | None = None, theme: str | None = None
) -> Drawing:
    """The drawings as panels of one picture, in the order given, under their own
    titles.

    Raises: ``ValueError`` for no drawings, and for drawings of different directions.
    """
    if not all(isinstance(drawing, Drawing) for drawing in drawings):
        raise TypeError(
            "side_by_side: drawings must be given, such as tg.draw(...) returns, but "
            f"{', '.join(type(d).__name__ for d in drawings)} were received."
        )
    directions = {drawing.direction for drawing in drawings}
    if len(directions) != 1:
        raise ValueError(
            "side_by_side: one or more drawings of one direction must be given, but "
            f"{len(drawings)} with directions {sorted(directions)} were received."
        )
    _check(theme or drawings[0].theme, drawings[0].direction)
    panels = [scene for drawing in drawings for scene in drawing.panels]
    return Drawing(panels, theme or drawings[0].theme, drawings[0].direction, title)


def _check(theme: str, direction: str) -> None:
    if theme not in THEMES:
        raise ValueError(
            f"theme must be one of {sorted(THEMES)}, but {theme!r} was received."
        )
    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(
            f"direction must be LR, TB, RL or BT, but {direction!r} was received."
        )


__all__ = ["Drawing", "NoRenderer", "draw", "draw_routes", "side_by_side"]

"""Drawings: pictures that show why a gradient is what it is.

The files in reading order:

1. ``scene.py``, ``flow.py``, ``formula.py``, ``places.py``, ``boxes.py``,
   ``compose.py``, ``chains.py``: the tape becomes data, a ``Scene``.
2. ``theme.py``, ``markup.py``, ``strips.py``, ``sheets.py``, ``labels.py``,
   ``layout.py``, ``legend.py``, ``dot.py``: data becomes DOT text.
3. ``web.py``, ``render.py``: DOT text becomes a picture, by Graphviz.

This package comes after ``routes.py`` and ``nn.py`` in the reading order.

Left out on purpose: a layout algorithm of our own, and interaction beyond tooltips and
the highlighting of routes (``web.py``).
"""

from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import graphviz

from ..files import replace_file
from ..routes import refuse_unexplainable, refuse_unrecorded
from ..tensor import Tensor
from .chains import compose_chains
from .compose import compose
from .dot import to_dot
from .layout import best_direction, fit_to_page
from .places import Options
from .render import NoRenderer, render, show, svg
from .scene import Scene
from .theme import PAIRS
from .web import for_both_themes, page

KINDS = ("svg", "png", "pdf", "dot", "html")
DIRECTIONS = ("LR", "TB", "RL", "BT")
MANY_BOXES, FEW_BOXES = 40, 14


class Drawing:
    """A picture of a graph: notebooks show it, ``show`` opens it, ``save`` saves it.

    ``source`` is its DOT text, and ``dot`` the ``graphviz.Digraph`` for further work.
    ``panels`` are the scenes that it shows.
    """

    def __init__(
        self, panels: list[Scene], theme: str, direction: str | None, title: str | None
    ):
        self.panels, self.theme, self.title = panels, theme, title
        self.chosen_direction = direction
        if direction is None:
            direction = best_direction(panels[0]) if len(panels) == 1 else "TB"
        self.direction: str = direction
        self.dot: graphviz.Digraph = to_dot(panels, PAIRS[theme][0], title, direction)

    @property
    def source(self) -> str:
        """The DOT text, which is the same for the same graph on every machine."""
        return self.dot.source

    def svg(self) -> str:
        """The picture as SVG text. Raises ``NoRenderer`` without Graphviz."""
        picture, (light, dark) = svg(self.source, self.panels), PAIRS[self.theme]
        if light is dark:
            return picture
        twin = to_dot(self.panels, dark, self.title, self.direction)
        return for_both_themes(picture, svg(twin.source, self.panels), (light, dark))

    def show(self) -> Path:
        """Open the picture with the system's viewer; return the file that it opens.

        Without a viewer, it prints where the file is. Raises ``NoRenderer`` without
        Graphviz.
        """
        return show(self._content("html", 1), ".html")

    def save(self, path: Any, scale: float = 2) -> Path:
        """Save the picture in the format given by the file extension; return the path.

        ``.svg``, ``.png`` and ``.pdf`` are pictures. ``.html`` is a page with the SVG,
        in which a click on a box or an arrow highlights the routes through it. ``.dot``
        is the DOT text, which needs no renderer. ``scale`` multiplies the pixels of a
        ``.png``. Missing folders are made.

        Raises: ``ValueError`` for another extension or a scale that is not positive,
        ``NoRenderer`` without Graphviz. The file is then left as it was.
        """
        name = Path(path).name
        kind = Path(name).suffix[1:].lower()
        if kind not in KINDS:
            raise ValueError(
                f"drawing.save(path): the extension must be one of {', '.join(KINDS)}, "
                f"but {name!r} was received."
            )
        if not 0 < scale < float("inf"):
            raise ValueError(
                f"drawing.save(scale): the scale must be positive, but {scale!r} was "
                "received. 2 is sharp on most screens."
            )
        content = self._content(kind, scale)
        replace_file("drawing.save(path)", path, lambda file: file.write(content))
        return Path(path)

    def _content(self, kind: str, scale: float) -> bytes:
        if kind == "dot":
            return self.source.encode()
        if kind == "svg":
            return self.svg().encode()
        if kind == "html":
            title = (self.title or "tinygrad_bn").split("\n")[0]
            return page(self.svg(), title, PAIRS[self.theme]).encode()
        return render(self.source, kind, scale)

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> dict[str, str]:
        try:
            return {"image/svg+xml": self.svg(), "text/plain": repr(self)}
        except Exception as error:  # noqa: BLE001
            # A notebook must show the cell even if no picture can be made.
            return {"text/plain": f"{self!r}\n{error}"}

    def __repr__(self) -> str:
        boxes = sum(len(scene.boxes) for scene in self.panels)
        arrows = sum(len(scene.arrows) for scene in self.panels)
        title = f" {self.title!r}" if self.title else ""
        return f"<Drawing{title}: {boxes} boxes, {arrows} arrows>"


def draw(
    y: Tensor,
    leaf: Tensor | None = None,
    *,
    gates: Iterable[str] | None = None,
    gradient: Any = None,
    direction: str | None = None,
    theme: str = "light",
    open: Iterable[str] = (),
    depth: int | None = None,
    max_nodes: int | None = None,
    title: str | None = None,
    tiles: bool = True,
    symbols: dict[str, Any] | None = None,
) -> Drawing:
    """Draw the graph behind ``y``; with a ``leaf``, the routes of the gradient to it.

    With a leaf, the picture shows the leaf, the batch norm next to it and the loss. The
    rest is folded until there are about ``max_nodes`` boxes (14; without a leaf, 40).
    With ``max_nodes=1``, the leaf is drawn alone, or ``y`` if no leaf is given. If the
    number is larger, but too small for the leaf, ``y``, a box for the rest and the data
    that enters it, these are drawn anyway.

    ``depth`` folds modules: 1 shows those at the top level, 2 also those inside them.
    ``open`` names the modules, composites and fused operations whose insides are drawn.

    ``gates`` and ``gradient`` are those of ``explain``. ``direction`` is LR, TB, RL or
    BT; by default, the shape of the graph decides. ``theme`` is light, dark or auto: in
    a browser, an SVG or a page in auto follows the reader's color scheme, as its colors
    are CSS variables; everywhere else, auto is light. ``title`` may have several lines.
    ``tiles`` shows the values of small tensors where the page has room. ``symbols``
    maps names to arrays: a gradient that equals one of them is labeled with its name.

    Raises: ``ValueError`` for a ``y`` without history, unknown gates, names or themes,
    a misshapen ``gradient``, or a ``depth`` or ``max_nodes`` that is not a whole number
    or too small; ``TypeError`` for a ``y`` or ``leaf`` that is not a tensor;
    ``RuntimeError`` if a leaf has changed since it was used.
    """
    refuse_unrecorded("draw", y)
    if leaf is not None:
        refuse_unexplainable("draw", leaf)
    _check(theme, direction)
    _check_count("depth", depth, 0, "1 shows the modules at the top level.")
    alone = "y" if leaf is None else "the leaf"
    _check_count("max_nodes", max_nodes, 1, f"1 draws {alone} alone.")
    names = frozenset([open] if isinstance(open, str) else open)
    if max_nodes is None:
        max_nodes = MANY_BOXES if leaf is None or names else FEW_BOXES
    options = Options(leaf, names, depth, max_nodes)
    scene = compose(y, gates, gradient, options, tiles, symbols)
    fit_to_page(scene, direction)
    scene.title = title or ""
    return Drawing([scene], theme, direction, title)


def draw_routes(
    y: Tensor,
    leaf: Tensor,
    *,
    gates: Iterable[str] | None = None,
    gradient: Any = None,
    theme: str = "light",
    title: str | None = None,
) -> Drawing:
    """Draw the routes from ``y`` to ``leaf``, one below another, and their total.

    The parameters and the errors are those of ``draw`` and ``explain``.
    """
    refuse_unrecorded("draw_routes", y)
    refuse_unexplainable("draw_routes", leaf)
    _check(theme, None)
    scene = compose_chains(y, leaf, gates, gradient)
    scene.title = title or ""
    return Drawing([scene], theme, None, title)


def side_by_side(
    *drawings: Drawing, title: str | None = None, theme: str | None = None
) -> Drawing:
    """Combine drawings into one picture, each as a panel under its own title.

    The panels are in the order given, in as many rows as a page of 830 points requires.
    They all have the same ``theme``, by default that of the first drawing.

    Raises: ``ValueError`` for no drawings, for drawings of different directions, and
    for an unknown theme; ``TypeError`` for anything but drawings.
    """
    if not all(isinstance(drawing, Drawing) for drawing in drawings):
        raise TypeError(
            "side_by_side: drawings must be given, such as tg.draw(...) returns, but "
            f"{', '.join(type(d).__name__ for d in drawings)} were received."
        )
    directions = {d.chosen_direction for d in drawings} - {None}
    if not drawings or len(directions) > 1:
        raise ValueError(
            "side_by_side: one or more drawings of one direction must be given, but "
            f"{len(drawings)} with directions {sorted(map(str, directions))} were "
            "received."
        )
    theme = theme or drawings[0].theme
    _check(theme, None)
    panels = [scene for drawing in drawings for scene in drawing.panels]
    return Drawing(panels, theme, next(iter(directions), None), title)


def _check(theme: str, direction: str | None) -> None:
    if theme not in PAIRS:
        raise ValueError(
            f"theme must be one of {sorted(PAIRS)}, but {theme!r} was received."
        )
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(
            f"direction must be LR, TB, RL or BT, but {direction!r} was received."
        )


def _check_count(setting: str, value: Any, least: int, hint: str) -> None:
    if value is not None and (not isinstance(value, Integral) or value < least):
        raise ValueError(
            f"draw({setting}=): {setting} must be a whole number of at least {least}, "
            f"but {value!r} was received. {hint}"
        )


__all__ = ["Drawing", "NoRenderer", "draw", "draw_routes", "side_by_side"]

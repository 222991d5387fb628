"""The few SVG elements that the figures of the page are made of, with text escaped.

Colors and sizes are in ``figures.css``: an element has a class, never a style, so that
one figure serves both themes.
"""

import html
import math

WIDTH = 368  # of every figure, in its own units: 1 px on a screen of 400 px


def element(tag: str, *content: str, **attributes: object) -> str:
    """An element; ``data_tail`` becomes ``data-tail``, ``class_`` becomes ``class``."""
    text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{text}>{''.join(content)}</{tag}>"


def figure(name: str, height: float, *content: str, role: str = "img") -> str:
    """A whole figure; the script keeps its ``aria-label`` up to date."""
    box = f"0 0 {WIDTH} {height}"
    return element(
        "svg", *content, id=f"{name}-figure", viewBox=box, role=role, aria_label=name
    )


def standalone(figure: str, style: str, height: float) -> str:
    """A figure as the text of an SVG file, a half larger than in its own units."""
    names = f'xmlns="http://www.w3.org/2000/svg" width="{1.5 * WIDTH:g}"'
    style = f"<style>\n{style}:root {{ background: var(--ground); }}\n</style>"
    start, _, content = figure.partition(">")
    return f'{start} {names} height="{1.5 * height:g}">\n{style}\n{content}\n'


def words(text: str, x: float, y: float, class_: str | None = None, **rest) -> str:
    """A line of text; its classes choose color, weight and anchor."""
    return element("text", html.escape(text), x=x, y=y, class_=class_, **rest)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **rest) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **rest)


def circle(x: float, y: float, r: float, class_: str, **rest) -> str:
    return element("circle", cx=x, cy=y, r=r, class_=class_, **rest)


def arrow(points: list[tuple[float, float]], size: float, class_: str, **rest) -> str:
    """A line through ``points`` with a head at its end, ``size`` units long."""
    (x0, y0), (x1, y1) = points[-2:]
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = (x1 - x0) / length * size, (y1 - y0) / length * size
    # The line ends inside the head, not at its tip.
    ends = [*points[:-1], (x1 - 0.7 * dx, y1 - 0.7 * dy)]
    head = [(x1, y1), (x1 - dx - 0.6 * dy, y1 - dy + 0.6 * dx)]
    head += [(x1 - dx + 0.6 * dy, y1 - dy - 0.6 * dx)]
    return element(
        "g",
        element("polyline", points=_joined(ends), class_="shaft"),
        element("polygon", points=_joined(head), class_="head"),
        class_=f"arrow {class_}",
        **rest,
    )


def box(
    x: float, y: float, width: float, height: float, class_: str = "", **rest
) -> str:
    """A rounded rectangle."""
    place = {"x": x, "y": y, "width": width, "height": height, "rx": 6}
    return element("rect", **place, class_=f"box {class_}", **rest)


def pill(text: str, x: float, y: float, class_: str, **rest) -> str:
    """A short label with a border, centered at a point."""
    width = 13 + 8.8 * len(text)
    ground = element(
        "rect", x=round(x - width / 2, 1), y=y - 11, width=round(width, 1), height=22,
        rx=11, class_="pill",
    )  # fmt: skip
    label = words(text, x, y + 5, f"middle bold {class_}")
    return element("g", ground, label, class_=class_, **rest)


def _joined(points):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

"""The few SVG elements that the figures of the page are made of, with text escaped.

Colors and sizes are in ``page.css``: an element has a class, never a style, so that one
figure serves both themes.
"""

import html

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


def words(text: str, x: float, y: float, class_: str | None = None, **rest) -> str:
    """A line of text; its classes choose color, weight and anchor."""
    return element("text", html.escape(text), x=x, y=y, class_=class_, **rest)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **rest) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **rest)


def circle(x: float, y: float, r: float, class_: str, **rest) -> str:
    return element("circle", cx=x, cy=y, r=r, class_=class_, **rest)

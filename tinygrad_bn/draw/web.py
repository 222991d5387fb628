"""An SVG whose parts can be addressed, and the page on which they can be clicked.

Every box, arrow and value says what it shows, in attributes:

    box       data-panel, data-box
    arrow     data-panel, data-arrow, data-tail, data-head
    gradient  those of its arrow, data-stream, data-group
    value     data-panel, data-box, data-row, data-col

The numbers are indices in ``Drawing.panels``, in its boxes and in its arrows. In tiles,
``data-tiles`` tells values (0) from gradients (1), and the sums follow the last row. In
a ledger, row 0 holds the values, then comes a row per group with its ``data-group``,
then the total. Boxes and arrows also have a ``data-rule``, which says in words what
they compute. No element has an id, which a second picture on the same page would
repeat.

This file comes after ``dot.py`` in the reading order; ``render.py`` is next.

Left out on purpose: scripts in the SVG itself, which many pages would not run.
"""

import base64
import hashlib
import html
import re
from pathlib import Path
from xml.etree import ElementTree

from .markup import clean
from .scene import Arrow, Box, Scene, Stream
from .theme import Theme

_HERE = Path(__file__).parent


def mark(root: ElementTree.Element, panels: list[Scene]) -> None:
    """Replace the ids, which ``dot.py`` chose, by attributes."""
    for element in root.iter():
        name = element.attrib.pop("id", "")
        # Graphviz wraps what has a tooltip in a second group, named a_...; a value has
        # no other.
        if name.startswith("a_") and "_row" not in name:
            continue
        found = {"panel": "0"} | dict(re.findall("([a-z]+)([0-9]+)", name))
        if "box" in found or "arrow" in found:
            found |= _facts(panels[int(found["panel"])], found)
            for key, value in found.items():
                element.set(f"data-{key}", clean(value))


def _facts(scene: Scene, found: dict[str, str]) -> dict[str, str]:
    """What the scene says about a box, an arrow or a value."""
    if "arrow" in found:
        arrow = scene.arrows[int(found["arrow"])]
        ends = {"tail": str(arrow.tail), "head": str(arrow.head)}
        if "stream" not in found:
            return ends | {"rule": "data " + _ends(scene, arrow)}
        stream = arrow.streams[int(found["stream"])]
        rule = _rule_of_stream(scene, arrow, stream)
        return ends | {"group": stream.group, "rule": rule}
    box = scene.boxes[int(found["box"])]
    if "row" not in found:
        return {"rule": _rule_of_box(box)}
    i = int(found["row"]) - 1
    if (
        box.ledger is not None
        and "tiles" not in found
        and 0 <= i < len(box.ledger.rows)
    ):
        return {"group": box.ledger.rows[i].group}
    return {}


def _ends(scene: Scene, arrow: Arrow) -> str:
    return f"from {_name(scene.boxes[arrow.tail])} to {_name(scene.boxes[arrow.head])}"


def _name(box: Box) -> str:
    return box.title or box.formula or box.operation or box.kind


def _rule_of_box(box: Box) -> str:
    words = " = ".join(filter(None, (box.title, box.formula, box.operation)))
    return f"{words or box.kind}  {box.note}".strip()


def _rule_of_stream(scene: Scene, arrow: Arrow, stream: Stream) -> str:
    back = _ends(scene, Arrow(arrow.head, arrow.tail))
    if stream.cut:
        return f"gradient {back}: cut"
    words = ", ".join(filter(None, (stream.amount, stream.factor)))
    return f"gradient {back}" + (f": {words}" if words else "")


def page(picture: str, title: str, theme: Theme) -> str:
    """One HTML file around an SVG, which loads nothing and shows it without scripts.

    The policy forbids whatever is not in the file from the start.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    colors = "".join(
        f"--{name}: {getattr(theme, name)}; "
        for name in ("background", "ink", "border", "direct")
    )
    style = f":root {{ {colors}}}\n" + (_HERE / "page.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src "
        f"{_digest(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    # The policy forbids style attributes, and the style of the page says the same.
    picture = re.sub(' style="[^"]*"', "", picture, count=1)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{html.escape(clean(title))}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{html.escape(clean(title))}</h1>
{picture}
<pre id="chosen" role="status"></pre>
</main>
<script>{script}</script>
</body>
</html>
"""


def _digest(text: str) -> str:
    sha = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(sha).decode()}'"

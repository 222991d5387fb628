"""An SVG whose parts can be addressed, its colors, and the page to click on them.

Every box, arrow and value says what it shows, in attributes:

    box       data-panel, data-box
    arrow     data-panel, data-arrow, data-tail, data-head
    gradient  those of its arrow, data-stream, data-group
    value     data-panel, data-box, data-row, data-col

The numbers are indices in ``Drawing.panels``, in its boxes and in its arrows. In tiles,
``data-tiles`` distinguishes values (0) from gradients (1), and the sums follow the last
row. In a ledger, row 0 holds the values, then comes a row per group with its
``data-group``, then the total; the routes of ``draw_routes`` have the same numbers. The
norms of a folded module are column 0, with a row per parameter. Boxes and arrows also
have a ``data-rule``, which says in words what they compute. No element has an id, which
a second picture on the same page would repeat.

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
from .theme import Theme, colors_of, stylesheet

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
            return ends | {"rule": "data " + _ends(scene, arrow.tail, arrow.head)}
        stream = arrow.streams[int(found["stream"])]
        rule = _rule_of_stream(scene, arrow, stream)
        return ends | {"group": stream.group, "rule": rule}
    box = scene.boxes[int(found["box"])]
    if "row" not in found:
        return {"rule": _rule_of_box(box)}
    rows = [chain.row for chain in box.sheet.chains] if box.sheet else []
    rows = box.ledger.rows if box.ledger else rows
    i = int(found["row"]) - 1
    is_route = "tiles" not in found and 0 <= i < len(rows)
    return {"group": rows[i].group} if is_route else {}


def _ends(scene: Scene, start: int, end: int) -> str:
    return f"from {_name(scene.boxes[start])} to {_name(scene.boxes[end])}"


def _name(box: Box) -> str:
    return box.title or box.formula or box.operation or box.kind


def _rule_of_box(box: Box) -> str:
    rule = " = ".join(filter(None, (box.equation(), box.operation)))
    return f"{rule or box.kind}  {box.note}".strip()


def _rule_of_stream(scene: Scene, arrow: Arrow, stream: Stream) -> str:
    back = _ends(scene, arrow.head, arrow.tail)
    if stream.cut:
        return f"gradient {back}: cut"
    details = ", ".join(filter(None, (stream.amount, stream.factor)))
    return f"gradient {back}" + (f": {details}" if details else "")


def for_both_themes(light: str, dark: str, pair: tuple[Theme, Theme]) -> str:
    """One SVG from two that differ in colors only, which become CSS variables.

    A color that a theme mixes is named after its two values. So variables of the same
    name agree between the pictures of a page.
    """
    root, other = map(ElementTree.fromstring, (light, dark))
    colors = colors_of(pair)
    names = {values: name for name, values in colors.items()}
    for element, twin in zip(root.iter(), other.iter(), strict=True):
        for key, value in element.attrib.items():
            values = value, twin.attrib[key]
            if value != values[1]:
                own = "--tg-" + "-".join(values).replace("#", "")
                name = names.setdefault(values, own)
                colors[name] = values
                element.set(key, f"var({name})")
    style = ElementTree.Element(root.tag.replace("}svg", "}style"))
    style.text = stylesheet(colors)
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def page(picture: str, title: str, pair: tuple[Theme, Theme]) -> str:
    """One HTML file around an SVG, which loads nothing and shows it without scripts."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    style = stylesheet(colors_of(pair)) + style
    # The policy forbids style attributes, and the style of the page says the same.
    picture = re.sub(' style="[^"]*"', "", picture, count=1)
    styles = [style, *re.findall("<style>(.*?)</style>", picture, re.DOTALL)]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(script, *styles)}">
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


def policy(script: str, *styles: str) -> str:
    """The rule by which a browser refuses all but this script and these styles."""
    return (
        f"default-src 'none'; script-src {_digest(script)}; style-src "
        f"{' '.join(map(_digest, styles))}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(text: str) -> str:
    sha = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(sha).decode()}'"

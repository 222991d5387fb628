"""DOT text to pictures: who renders, and what is done to an SVG afterwards.

The Graphviz inside the ``pygraphviz`` wheel renders in this process, without a system
package; where it is missing, the ``dot`` program does. Neither there, the error names the
ways out.
"""

import re
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ElementTree

from .markup import escape

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)

WAYS_OUT = (
    "to render a drawing, Graphviz must be there, but neither the Python package pygraphviz "
    "nor the program dot was found. Any of these will do: on every system "
    "'python -m pip install pygraphviz' (its wheels contain Graphviz); on Debian or Ubuntu "
    "'apt install graphviz'; on macOS 'brew install graphviz'; on Windows "
    "'winget install graphviz'. The DOT text needs none of them: drawing.source, or "
    "drawing.save('picture.dot')."
)


class NoRenderer(RuntimeError):
    """Neither ``pygraphviz`` nor ``dot`` is installed."""


def render(source: str, kind: str) -> bytes:
    """The picture of ``source`` as ``svg``, ``png`` or ``pdf``.

    Raises: ``NoRenderer``; ``RuntimeError`` where Graphviz refuses the source.
    """
    if kind in ("png", "pdf"):
        _warn_without_fonts(kind)
    try:
        from pygraphviz import AGraph  # heavy and optional
    except ImportError:
        return _by_program(source, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AGraph(string=source).draw(format=_driver(kind), prog="dot")


def _driver(kind: str) -> str:
    return "png:cairo" if kind == "png" else kind


def _by_program(source: str, kind: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise NoRenderer(WAYS_OUT)
    done = subprocess.run(
        [program, f"-T{_driver(kind)}"], input=source.encode(), capture_output=True
    )
    if done.returncode or not done.stdout:
        raise RuntimeError(
            f"dot could not draw this: {done.stderr.decode(errors='replace')}"
        )
    return done.stdout


def _warn_without_fonts(kind: str) -> None:
    listing = shutil.which("fc-list")
    if listing and not subprocess.run([listing], capture_output=True).stdout.strip():
        warnings.warn(
            f"a {kind} needs a font on this system, and none is installed: its text will be "
            "missing. Install one (on Debian or Ubuntu 'apt install fonts-dejavu-core'), or "
            "save an .svg, which needs none.",
            stacklevel=2,
        )


def svg(source: str) -> str:
    """The SVG of ``source``, which points to nothing outside and tells values as tooltips."""
    text = render(source, "svg").decode()
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", text, count=1))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}title":
                parent.remove(child)
    for parent in list(root.iter()):
        for i, child in enumerate(list(parent)):
            if child.tag == f"{{{_SVG}}}a":
                parent[i] = _with_title(child)
    return ElementTree.tostring(root, encoding="unicode")


def _with_title(anchor: ElementTree.Element) -> ElementTree.Element:
    """The group in place of a link, which has its tooltip for a title."""
    group = ElementTree.Element(f"{{{_SVG}}}g")
    tooltip = anchor.get(f"{{{_XLINK}}}title", "").strip()
    if tooltip:
        ElementTree.SubElement(group, f"{{{_SVG}}}title").text = tooltip
    group.extend(list(anchor))
    return group


def page(picture: str, title: str, background: str, ink: str) -> str:
    """One HTML file around an SVG: no requests, no scripts; hovering lights what is meant."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
body {{ margin: 0; background: {background}; color: {ink}; }}
svg {{ display: block; max-width: 100%; height: auto; margin: auto; }}
svg:has(g.node:hover, g.edge.stream:hover) :is(g.node, g.edge) {{ opacity: 0.35; }}
svg g.node:hover, svg g.edge.stream:hover {{ opacity: 1 !important; }}
</style>
</head>
<body>
{picture}
</body>
</html>
"""

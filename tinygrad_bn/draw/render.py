"""DOT text to pictures: who renders, and what is done to an SVG afterwards.

The Graphviz inside the ``pygraphviz`` wheel renders in this process, without a system
package; where it is missing, the ``dot`` program does. Neither there, the error names
the ways out.
"""

import os
import re
import shutil
import subprocess
import tempfile
import warnings
from contextlib import contextmanager
from xml.etree import ElementTree

from .markup import escape

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)

WAYS_OUT = (
    "to render a drawing, Graphviz must be there, but neither the Python package "
    "pygraphviz nor the program dot was found. Any of these will do: on every system "
    "'python -m pip install pygraphviz' (its wheels contain Graphviz); on Debian or "
    "Ubuntu 'apt install graphviz'; on macOS 'brew install graphviz'; on Windows "
    "'winget install graphviz'. The DOT text needs none of them: drawing.source, or "
    "drawing.save('picture.dot')."
)


class NoRenderer(RuntimeError):
    """Neither ``pygraphviz`` nor ``dot`` is installed."""


def render(source: str, kind: str) -> bytes:
    """The picture of ``source`` as ``svg``, ``png`` or ``pdf``.

    Raises: ``NoRenderer``; ``RuntimeError`` where Graphviz complains of the source.
    """
    if kind != "svg":
        _warn_without_fonts(kind)
    try:
        from pygraphviz import AGraph  # optional, and heavy to load
    except ImportError:
        picture, complaints = _by_program(source, kind)
    else:
        with _complaints() as told:
            picture = AGraph(string=source).draw(format=kind, prog="dot")
            told.seek(0)
            complaints = told.read()
    if not picture or b"Error:" in complaints:
        words = complaints.decode(errors="replace")
        raise RuntimeError(f"Graphviz cannot draw this: {words}")
    return picture


def _by_program(source: str, kind: str) -> tuple[bytes, bytes]:
    program = shutil.which("dot")
    if program is None:
        raise NoRenderer(WAYS_OUT)
    words = [program, f"-T{kind}"]
    done = subprocess.run(
        words, input=source.encode(), capture_output=True, check=False
    )
    return done.stdout, done.stderr


@contextmanager
def _complaints():
    """Catch what Graphviz, a C library, writes to the error stream of the process.

    It does not raise, and its fonts complain of newer configurations than theirs.
    """
    with tempfile.TemporaryFile() as told:
        stream = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            yield told
        finally:
            os.dup2(stream, 2)
            os.close(stream)


def _warn_without_fonts(kind: str) -> None:
    lister = shutil.which("fc-list")
    if lister is None:
        return
    fonts = subprocess.run([lister], capture_output=True, check=False).stdout
    if not fonts.strip():
        warnings.warn(
            f"a {kind} needs a font on this system, and none is installed: its text "
            "will be missing. Install one (on Debian or Ubuntu "
            "'apt install fonts-dejavu-core'), or save an .svg, which needs none.",
            stacklevel=5,
        )


def svg(source: str) -> str:
    """The SVG of ``source``, which points to nothing outside and has values as
    tooltips."""
    text = render(source, "svg").decode()
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", text, count=1))
    # Graphviz's own titles are ids, its tooltips links to nowhere.
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag == f"{{{_SVG}}}title"]:
            parent.remove(child)
    for parent in list(root.iter()):
        for i, child in enumerate(parent):
            if child.tag == f"{{{_SVG}}}a":
                parent[i] = _titled_group(child)
    # Older versions of Graphviz leave it to the viewer to drop spaces.
    root.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    return ElementTree.tostring(root, encoding="unicode")


def _titled_group(link: ElementTree.Element) -> ElementTree.Element:
    group = ElementTree.Element(f"{{{_SVG}}}g")
    tooltip = link.get(f"{{{_XLINK}}}title", "").strip()
    if tooltip:
        ElementTree.SubElement(group, f"{{{_SVG}}}title").text = tooltip
    group.extend(list(link))
    return group


def page(picture: str, title: str, background: str, ink: str) -> str:
    """One HTML file around an SVG: no requests, no scripts; hovering lights one
    thing."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
body {{ margin: 0; background: {background}; color: {ink}; }}
svg {{ display: block; max-width: 100%; height: auto; margin: auto; }}
svg:has(g.node:hover, g.stream:hover) :is(g.node, g.edge) {{ opacity: 0.3; }}
svg :is(g.node, g.stream):hover {{ opacity: 1 !important; }}
</style>
</head>
<body>
{picture}
</body>
</html>
"""

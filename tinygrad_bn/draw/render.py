"""From DOT text to a picture: Graphviz renders it, and its SVG is adapted to pages.

Graphviz runs in a separate process, so that its warnings and crashes stay there. It
comes from the ``pygraphviz`` wheel, which needs no system package, or from the ``dot``
program. If neither is installed, the error says how to get one.

This file comes after ``web.py``, last in the reading order of this folder.

Left out on purpose: rendering on a server. What is drawn stays on this computer.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from xml.etree import ElementTree

from .scene import Scene
from .web import mark

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)

DOTS_PER_INCH = 96
_BY_PYGRAPHVIZ = """
import sys
kind, dpi, *sys.path = sys.argv[1:]
from pygraphviz import AGraph
graph = AGraph(string=sys.stdin.buffer.read().decode())
graph.graph_attr["dpi"] = dpi
sys.stdout.buffer.write(graph.draw(format=kind, prog="dot"))
"""
# How the bytes of each kind of picture begin and end.
_COMPLETE = {
    "svg": (b"<?xml", b"</svg>"),
    "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "pdf": (b"%PDF-", b"%%EOF"),
}
INSTALL = (
    "rendering a drawing needs Graphviz, but neither the Python package pygraphviz nor "
    "the program dot was found. Install one of them: on every system 'python -m pip "
    "install pygraphviz' (its wheels contain Graphviz); on Debian or Ubuntu 'apt "
    "install graphviz'; on macOS 'brew install graphviz'; on Windows 'winget install "
    "graphviz'. Without it, drawing.source is the DOT text, and "
    "drawing.save('picture.dot') saves it."
)


class NoRenderer(RuntimeError):
    """Neither ``pygraphviz`` nor ``dot`` is installed."""


def render(source: str, kind: str, scale: float = 1) -> bytes:
    """The picture of ``source`` as ``svg``, ``png`` or ``pdf``.

    ``scale`` multiplies the number of pixels of a ``png`` in each direction.

    Raises: ``NoRenderer``; ``RuntimeError`` with Graphviz's messages if it fails.
    """
    if kind != "svg":
        _warn_without_fonts(kind)
    dpi = f"{DOTS_PER_INCH * scale:g}" if kind == "png" else "72"
    complaints = []
    for command in _renderers(kind, dpi):
        done = subprocess.run(
            command, input=source.encode(), capture_output=True, check=False
        )
        failed = done.returncode != 0 or b"Error:" in done.stderr
        if not failed and _is_complete(done.stdout, kind):
            return done.stdout
        message = done.stderr.decode(errors="replace").strip()
        crashed = b"Error:" not in done.stderr
        complaints.append(f"it crashed. {message}" if crashed else message)
    if not complaints:
        raise NoRenderer(INSTALL)
    raise RuntimeError(f"Graphviz cannot draw this: {' '.join(complaints)}")


def _renderers(kind: str, dpi: str) -> Iterator[list[str]]:
    """The commands that may turn DOT on their input into a picture on their output."""
    if _is_installed("pygraphviz"):
        yield [sys.executable, "-S", "-c", _BY_PYGRAPHVIZ, kind, dpi, *sys.path]
    if program := shutil.which("dot"):
        yield [program, f"-T{kind}", f"-Gdpi={dpi}"]


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # sys.modules blocks the package.
        return False


def _is_complete(picture: bytes, kind: str) -> bool:
    begin, end = _COMPLETE[kind]
    return picture.startswith(begin) and picture.rstrip().endswith(end)


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


# --- Viewers --------------------------------------------------------------------------


def show(content: bytes, suffix: str) -> Path:
    """Open a picture with the system's viewer, or print its path; return the path."""
    with NamedTemporaryFile(prefix="tinygrad_bn-", suffix=suffix, delete=False) as file:
        file.write(content)
    path = Path(file.name)
    # Without a screen, a text-mode browser would take over the terminal.
    screens = "DISPLAY", "WAYLAND_DISPLAY"
    has_screen = sys.platform != "linux" or any(map(os.environ.get, screens))
    if not (has_screen and webbrowser.open(path.as_uri())):
        print(f"found no program to show the picture, which is saved as {path}")
    return path


# --- SVG ------------------------------------------------------------------------------


def svg(source: str, panels: list[Scene]) -> str:
    """The picture of ``source`` as SVG, with values as tooltips and no links.

    What shows a part of one of the ``panels`` says so in its ``data-`` attributes.

    It is at most as wide as what contains it, such as the cell of a notebook.
    """
    text = render(source, "svg").decode()
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", text, count=1))
    # Graphviz writes ids as titles, and tooltips as titles of empty links.
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag == f"{{{_SVG}}}title"]:
            parent.remove(child)
    for parent in list(root.iter()):
        for i, child in enumerate(parent):
            if child.tag == f"{{{_SVG}}}a":
                parent[i] = _titled_group(child)
    mark(root, panels)
    root.set("style", "max-width: 100%; height: auto;")
    # Some versions of Graphviz omit this, and viewers would then collapse spaces.
    root.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    return ElementTree.tostring(root, encoding="unicode")


def _titled_group(link: ElementTree.Element) -> ElementTree.Element:
    group = ElementTree.Element(f"{{{_SVG}}}g")
    tooltip = link.get(f"{{{_XLINK}}}title", "").strip()
    if tooltip:
        ElementTree.SubElement(group, f"{{{_SVG}}}title").text = tooltip
    group.extend(list(link))
    return group

"""The elements of Graphviz's HTML-like labels: text, tables, colored blocks.

This file imports no other; look here when needed.

Left out on purpose: images, and sub- and superscripts, which not every renderer draws.
"""

import html
import re
from collections.abc import Iterable
from typing import Any
from unicodedata import combining, east_asian_width

LEFT, RIGHT = "LEFT", "RIGHT"
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def clean(content: str) -> str:
    """Any text without the characters that XML forbids."""
    return _FORBIDDEN.sub("\ufffd", content)


def escape(content: str) -> str:
    """Escape any text, so that it appears unchanged in an HTML-like label or a page.

    Graphviz expands backslash sequences even there, and XML forbids some characters.
    """
    content = clean(content.replace("\r\n", "\n").replace("\r", "\n"))
    return html.escape(content).replace("\\", 2 * "&#92;").replace("\n", "<BR/>")


def plain(content: str) -> str:
    """Escape any text, so that it appears unchanged in a quoted attribute."""
    content = (clean(content) or " ").replace("&", "&amp;")
    return content.replace("\\", 4 * "&#92;").replace("\n", "&#10;")


def text(content: str, color: str, size: int = 12, bold: bool = False) -> str:
    """Text in a color and size; empty text becomes a space."""
    # Graphviz refuses empty text and tabs, and drops breakable spaces at an end.
    content = content.replace("\t", " ")
    bare = content.strip(" ")
    before, _, after = content.partition(bare) if bare else (content, "", "")
    inner = "\xa0" * len(before) + escape(bare) + "\xa0" * len(after) or " "
    inner = f"<B>{inner}</B>" if bold else inner
    return f'<FONT POINT-SIZE="{size}" COLOR="{color}">{inner}</FONT>'


def width_of(content: str, size: int = 12, bold: bool = False) -> float:
    """The approximate width of a text in Helvetica, in points."""
    longest = max(content.splitlines(), key=len, default="")
    return size * (1.07 if bold else 1) * sum(map(_ems, longest))


def _ems(letter: str) -> float:
    if combining(letter):
        return 0.0
    if east_asian_width(letter) in "WF":
        return 1.0
    if letter in "iljtfrI.,:;|!'()[] \xa0·":
        return 0.3
    return 0.85 if letter in "mwMW@—▬►◄" else 0.58


def cell(content: str = "", align: str = "CENTER", **attributes: Any) -> str:
    """One cell; ``attributes`` are Graphviz's, such as ``width`` or ``bgcolor``."""
    more = "".join(f' {k.upper()}="{v}"' for k, v in attributes.items())
    return f'<TD ALIGN="{align}"{more}>{content}</TD>'


def address(row: str, column: int) -> dict[str, str]:
    """The id of a value, which Graphviz drops unless the cell has a tooltip, too."""
    return {"id": f"{row}_col{column}", "tooltip": " "}


def block(color: str | None, width: float, height: int = 12) -> str:
    """A cell that is only a colored rectangle, or empty space."""
    size: dict[str, Any] = {"width": max(round(width), 1), "height": height}
    fill = {} if color is None else {"bgcolor": color}
    return cell(**fill, **size, fixedsize="TRUE")


def table(
    rows: Iterable[str], spacing: int = 0, padding: int = 1, **attributes: Any
) -> str:
    """Rows of cells; ``attributes`` set a border, a color, rounded corners."""
    given = {
        "border": 0, "cellborder": 0, "cellspacing": spacing, "cellpadding": padding
    }  # fmt: skip
    settings = "".join(f' {k.upper()}="{v}"' for k, v in (given | attributes).items())
    body = "".join(row if row == RULE else f"<TR>{row}</TR>" for row in rows)
    return f"<TABLE{settings}>{body}</TABLE>"


RULE = "<HR/>"


def rounded(
    rows: Iterable[str], color: str, fill: str, border: int = 1, **rest: Any
) -> str:
    """A table with a border around it and rounded corners."""
    return table(
        rows, border=border, style="ROUNDED", color=color, bgcolor=fill, **rest
    )


def label(content: str) -> str:
    """Text that Graphviz reads as an HTML-like label."""
    return f"<{content}>"

"""The few words of Graphviz's HTML-like labels: text, tables, colored blocks."""

import html
import re
from collections.abc import Iterable

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def escape(text: str) -> str:
    """Any text, to stand in an HTML-like label or a page as it is.

    Graphviz expands backslash sequences even there, and XML forbids some characters.
    """
    text = _FORBIDDEN.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    return html.escape(text).replace("\\", 2 * "&#92;").replace("\n", "<BR/>")


def plain(text: str) -> str:
    """Any text, to stand in a quoted attribute, such as a tooltip, as it is."""
    text = _FORBIDDEN.sub("\ufffd", text) or " "
    return text.replace("&", "&amp;").replace("\\", 4 * "&#92;").replace("\n", "&#10;")


def text(words: str, color: str, size: int = 12, bold: bool = False) -> str:
    """Words in a color and size; a space stands for nothing, which Graphviz refuses."""
    # Graphviz refuses tabs, and spaces at an end are kept only if they do not break.
    words = words.replace("\t", " ")
    bare = words.strip(" ")
    before, _, after = words.partition(bare) if bare else (words, "", "")
    inner = "\xa0" * len(before) + escape(bare) + "\xa0" * len(after) or " "
    inner = f"<B>{inner}</B>" if bold else inner
    return f'<FONT POINT-SIZE="{size}" COLOR="{color}">{inner}</FONT>'


def cell(content: str = "", align: str = "CENTER", **attributes) -> str:
    """One cell; ``attributes`` are Graphviz's, such as ``width`` or ``bgcolor``."""
    more = "".join(f' {k.upper()}="{v}"' for k, v in attributes.items())
    return f'<TD ALIGN="{align}"{more}>{content}</TD>'


def block(color: str | None, width: float, height: int = 12) -> str:
    """A cell that is nothing but a colored rectangle, or empty space."""
    fill = {} if color is None else {"bgcolor": color}
    size = {"width": max(round(width), 1), "height": height}
    return cell(**fill, **size, fixedsize="TRUE")


def table(rows: Iterable[str], spacing: int = 0, padding: int = 1, **attributes) -> str:
    """Rows of cells; ``attributes`` make a border, a color, rounded corners."""
    given = {
        "border": 0,
        "cellborder": 0,
        "cellspacing": spacing,
        "cellpadding": padding,
    }
    words = "".join(f' {k.upper()}="{v}"' for k, v in (given | attributes).items())
    return f"<TABLE{words}>{''.join(f'<TR>{row}</TR>' for row in rows)}</TABLE>"


def rounded(rows: Iterable[str], color: str, fill: str, border: int = 1, **rest) -> str:
    """A table with a border around it and rounded corners."""
    return table(
        rows, border=border, style="ROUNDED", color=color, bgcolor=fill, **rest
    )


def label(content: str) -> str:
    """What Graphviz takes for an HTML-like label."""
    return f"<{content}>"

"""What does batch norm do to gradients? A page to play with.

    python examples/page.py

Write ``examples/page/index.html``: one file that loads nothing, opened by a double
click. It has six chapters, each with a question, one figure, and the ten lines of
Python behind it.

The engine computes the numbers when the page is built. Two things are computed in the
browser, and tests compare them with the engine: the forward pass and the two routes of
chapter 1 (a sum and a mean), and the vector algebra of chapter 3.

Not shown: how the engine works (read ``tinygrad_bn/tape.py``), and networks other than
chains of fully connected layers.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3; for chapter 5, Yang et
al., arXiv 1902.08129.
"""

import argparse
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from parts.page import bias, cases, depth, geometry, rates, routes
from support.command_line import folder
from tinygrad_bn.draw.web import policy

HERE = Path(__file__).parent
PARTS = HERE / "parts" / "page"
CHAPTERS = {
    "bias": bias, "routes": routes, "geometry": geometry, "cases": cases,
    "depth": depth, "rates": rates,
}  # fmt: skip

INSTALL = (
    'In a copy of the repository, <code>python -m pip install -e ".[draw]"</code> '
    "installs what these lines need."
)
# Remarks on the lines of Python of a chapter.
NOTES = {
    "cases": "Their output lists one more route, through Var[x] and then E[x], which "
    "always brings 0."
}
# Where the lines of Python compute less than the figure shows.
SMALLER = {
    "cases": "Four of the cases in Python",
    "depth": "One of the curves in Python",
    "rates": "A small version in Python",
}


def read(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def as_json(value: object) -> str:
    """JSON that may stand in a page: ``<`` could end the element that holds it."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def python(chapter: str) -> str:
    """The lines of Python behind a figure, folded, with a button that copies them."""
    code = html.escape(read(f"snippets/{chapter}.py"))
    title = SMALLER.get(chapter, "The same in Python")
    return (
        f'<details class="python"><summary>{title}</summary>'
        f"<p>{INSTALL} {NOTES.get(chapter, '')}</p><pre><code>{code}</code></pre>"
        '<button type="button" class="copy">Copy</button></details>'
    )


def page() -> str:
    """The whole page."""
    style = read("figures.css") + read("page.css")
    script = "\n".join(read(f"{name}.js") for name in ("frame", *CHAPTERS))
    numbers, parts = {}, {}
    for name, chapter in CHAPTERS.items():
        numbers[name] = chapter.numbers()
        parts |= {f"{name}_{key}": part for key, part in chapter.parts().items()}
        parts[f"{name}_python"] = python(name)
    return Template(read("template.html")).substitute(
        parts,
        policy=policy(script, style),
        style=style,
        script=script,
        data=as_json(numbers),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = str(HERE / "page")
    text = "folder for index.html (default: the folder page beside this script)"
    parser.add_argument("--out", type=folder, default=here, help=text)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "index.html"
    path.write_text(page(), encoding="utf-8")
    print(f"page: {path}")


if __name__ == "__main__":
    main()

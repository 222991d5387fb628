"""Make the gallery anew: all its pictures, light and dark, and all its numbers.

    python examples/gallery.py                 the drawings, in seconds
    python examples/gallery.py --experiments   the experiments too, in minutes

Pictures go to examples/pictures. What an experiment prints goes between its two marks
in examples/README.md, so that the page has no number that no script printed. Images are
those of MNIST, from the folder $MNIST_DIR. What an experiment must show is checked over
three seeds or more (windows.py), and is written under its numbers; where it does not
hold, neither pictures nor page change.
"""

import argparse
import importlib
import io
import os
import re
import shutil
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import windows

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
PAGE = HERE / "README.md"
GOLDEN = HERE.parent / "tests" / "golden" / "gallery"
DRAWN = (
    "why_bias_cancels", "batch_norm_routes", "which_cut", "two_definitions",
    "draw_network",
)  # fmt: skip


def drawings() -> dict:
    """Every drawing of the gallery, by file name without its ending."""
    return {
        name + suffix: drawing
        for script in map(importlib.import_module, DRAWN)
        for theme, suffix in (("light", ""), ("dark", "-dark"))
        for name, drawing in script.drawings(theme).items()
    }


def with_numbers(page: str, name: str, numbers: str) -> str:
    """The page with these numbers between the marks of the experiment ``name``."""
    begin, end = f"<!-- numbers: {name} -->\n", "<!-- end -->"
    marks = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not marks.search(page):
        raise ValueError(
            f"{PAGE.name} must have the marks {begin.strip()} and {end}: "
            f"put them where the numbers of {name} belong."
        )
    block = f"{begin}```text\n{numbers}\n```\n{end}"
    return marks.sub(lambda _: block, page)


def run(name: str) -> None:
    """Run an experiment in full, check it, and put its pictures and it on the page.

    Raises: ``AssertionError`` for a statement that does not hold; all stays as it was.
    """
    script, began = importlib.import_module(name), time.perf_counter()
    with TemporaryDirectory() as new, TemporaryDirectory() as others:
        first, numbers = quietly(script, ["--out", new, "--theme", "both"])
        runs, took = [first], time.perf_counter() - began
        if name not in windows.MANY_SEEDS:
            for seed in windows.SEEDS[1:]:
                runs.append(quietly(script, ["--seed", str(seed), "--out", others])[0])
        numbers += "\n\n" + windows.checked(windows.WINDOWS[name](runs))
        page = with_numbers(PAGE.read_text(encoding="utf-8"), name, numbers.strip())
        shutil.copytree(new, PICTURES, dirs_exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    checking = time.perf_counter() - began - took
    print(f"{name}: {took:.0f} s, and {checking:.0f} s to check")


def quietly(script, arguments: list[str]) -> tuple:
    """What an experiment returns, and what it prints but for the paths of pictures."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        measured = script.main(arguments)
    lines = printed.getvalue().splitlines()
    return measured, "\n".join(x for x in lines if not x.startswith("picture: "))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments",
        nargs="*",
        choices=windows.WINDOWS,
        metavar="NAME",
        help="these experiments too, or all of them; needs $MNIST_DIR",
    )
    given = parser.parse_args(arguments)
    if given.experiments is not None and not os.environ.get("MNIST_DIR"):
        parser.error(
            "--experiments must run on MNIST, whose numbers the page shows: "
            "set MNIST_DIR"
        )
    drawn = drawings()
    for name, drawing in drawn.items():
        drawing.save(PICTURES / f"{name}.svg")
        drawing.save(GOLDEN / f"{name}.dot")
    print(f"drawings: {len(drawn)}")
    if given.experiments is not None:
        for name in given.experiments or windows.WINDOWS:
            run(name)


if __name__ == "__main__":
    main()

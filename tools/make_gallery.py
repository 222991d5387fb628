"""Rebuild the gallery: its pictures, light and dark, and its numbers.

    python tools/make_gallery.py                        the drawings, in seconds
    python tools/make_gallery.py --experiments          all experiments, too, in minutes
    python tools/make_gallery.py --experiments NAME     one experiment
    python tools/make_gallery.py --unseen 10 --first 100 --experiments NAME
                             check its claims over seeds 100 to 109, and change nothing

The drawings are those of every script in examples/ that defines ``drawings(theme)``.
The experiments are the folders of examples/parts/ that contain a ``claims.py``, and
run on MNIST, whose folder is $MNIST_DIR. Pictures are saved in examples/pictures/. What
an experiment prints is inserted between its two marks in examples/README.md, together
with its claims, so that the page shows no number that was not printed. If a claim does
not hold, neither the pictures nor the page change.
"""

import argparse
import importlib
import io
import os
import re
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PICTURES = EXAMPLES / "pictures"
PAGE = EXAMPLES / "README.md"
GOLDEN = ROOT / "tests" / "golden" / "gallery"
EXPERIMENTS = sorted(path.parent.name for path in EXAMPLES.glob("parts/*/claims.py"))

# The numbers are folded, since they are not for reading from top to bottom.
FOLDED = (
    "<details><summary>All numbers, and what was checked</summary>\n\n",
    "\n</details>\n",
)

if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

from support.claims import Claim, checked
from support.command_line import THEMES, picture_name, whole_number
from support.tables import span, table


def drawings() -> dict:
    """Every drawing of the gallery, by file name without its extension."""
    scripts = [importlib.import_module(p.stem) for p in sorted(EXAMPLES.glob("*.py"))]
    return {
        picture_name(name, theme): drawing
        for script in scripts
        if hasattr(script, "drawings")
        for theme in THEMES
        for name, drawing in script.drawings(theme).items()
    }


def with_numbers(page: str, name: str, numbers: str) -> str:
    """The page with these numbers between the marks of the experiment ``name``."""
    begin, end = f"<!-- numbers: {name} -->\n", "<!-- end -->"
    marks = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not marks.search(page):
        raise ValueError(
            f"{PAGE.name} must contain the marks {begin.strip()} and {end}: "
            f"put them where the numbers of {name} belong."
        )
    block = f"{begin}{FOLDED[0]}```text\n{numbers}\n```\n{FOLDED[1]}{end}"
    return marks.sub(lambda _: block, page)


def rebuild(name: str) -> None:
    """Run an experiment in full, check its claims, and update its pictures and numbers.

    Raises: ``AssertionError`` if a claim does not hold; the gallery is then unchanged.
    """
    began = time.perf_counter()
    script = importlib.import_module(name)
    part = importlib.import_module(f"parts.{name}.claims")
    first, *others = part.SEEDS
    with TemporaryDirectory() as new, TemporaryDirectory() as ignored:
        shown = ["--seed", str(first), "--out", new, "--theme", "both"]
        measured, numbers = run(script, shown)
        runs = [measured]
        for seed in others:
            runs.append(run(script, ["--seed", str(seed), "--out", ignored])[0])
        numbers += "\n\n" + checked(part.claims(runs))
        page = with_numbers(PAGE.read_text(encoding="utf-8"), name, numbers.strip())
        shutil.copytree(new, PICTURES, dirs_exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    print(f"{name}: {time.perf_counter() - began:.0f} s for {len(runs)} runs")


def check_unseen(name: str, count: int, first: int) -> str:
    """How often each claim of an experiment holds over some seeds, from ``first`` on.

    A run that measures several seeds counts as that many.
    """
    script = importlib.import_module(name)
    part = importlib.import_module(f"parts.{name}.claims")
    seeds_per_run = 1 if len(part.SEEDS) > 1 else 3
    found: dict[str, list[Claim]] = {}
    with TemporaryDirectory() as ignored:
        for seed in range(first, first + count, seeds_per_run):
            measured, _ = run(script, ["--seed", str(seed), "--out", ignored])
            for c in part.claims([measured]):
                found.setdefault(c.statement, []).append(c)
    rows = []
    for statement, claims in found.items():
        values = [value for c in claims for value in c.values]
        passed = sum(c.number_within for c in claims)
        rows.append(
            (statement, span(values), claims[0].bounds, f"{passed} of {len(values)}")
        )
    title = f"{name}, over {count} seeds or more, from {first} on"
    return table(title, ("", "measured", "must be", "values that hold"), rows)


def run(script, arguments: list[str]) -> tuple:
    """What an experiment returns, and what it prints except for paths of pictures."""
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
        choices=EXPERIMENTS,
        metavar="NAME",
        help="also run these experiments, or all of them; requires $MNIST_DIR",
    )
    parser.add_argument(
        "--unseen",
        type=whole_number(1),
        metavar="N",
        help="check the claims over N other seeds, and change nothing",
    )
    parser.add_argument(
        "--first",
        type=whole_number(3),
        default=3,
        metavar="SEED",
        help="the first of them (default 3, since the gallery shows seeds 0 to 2)",
    )
    options = parser.parse_args(arguments)
    if options.experiments is not None and not os.environ.get("MNIST_DIR"):
        parser.error(
            "--experiments must run on MNIST, whose numbers the page shows: "
            "set MNIST_DIR"
        )
    if options.unseen:
        for name in options.experiments or EXPERIMENTS:
            text = check_unseen(name, options.unseen, options.first)
            print(text, end="\n\n", flush=True)
        return
    drawn = drawings()
    for name, drawing in drawn.items():
        drawing.save(PICTURES / f"{name}.svg")
        if not name.endswith("-dark"):
            drawing.save(GOLDEN / f"{name}.dot")
    print(f"drawings: {len(drawn)}")
    if options.experiments is not None:
        for name in options.experiments or EXPERIMENTS:
            rebuild(name)


if __name__ == "__main__":
    main()

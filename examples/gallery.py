"""Make the gallery anew: all its pictures, light and dark, and all its numbers.

    python examples/gallery.py                 the drawings, in seconds
    python examples/gallery.py --experiments   the experiments too, in minutes

Pictures go to examples/pictures. What an experiment prints goes between its two marks
in examples/README.md, so that the page has no number that no script printed. With
$MNIST_DIR, experiments on images run on MNIST. What an experiment must show is checked
over three seeds or more (windows.py), and is written under its numbers.
"""

import argparse
import importlib
import io
import re
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
        raise ValueError(f"{PAGE.name} must have the marks {begin.strip()} and {end}.")
    block = f"{begin}```text\n{numbers}\n```\n{end}"
    return marks.sub(lambda _: block, page)


def run(name: str) -> None:
    """Run an experiment in full, keep its pictures, check it, and put it on the page.

    Raises: ``AssertionError`` for a statement that does not hold; the page stays then.
    """
    began, printed = time.perf_counter(), io.StringIO()
    script = importlib.import_module(name)
    with redirect_stdout(printed):
        runs = [script.main(["--out", str(PICTURES), "--theme", "both"])]
    took = time.perf_counter() - began
    lines = printed.getvalue().splitlines()
    numbers = "\n".join(line for line in lines if not line.startswith("picture: "))
    if name not in windows.MANY_SEEDS:
        runs += [quietly(script, seed) for seed in windows.SEEDS[1:]]
    numbers += "\n\n" + windows.checked(windows.WINDOWS[name](runs))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_numbers(page, name, numbers.strip()), encoding="utf-8")
    print(
        f"{name}: {took:.0f} s, and {time.perf_counter() - began - took:.0f} s to check"
    )


def quietly(script, seed: int):
    """What an experiment measures for another seed."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        return script.main(["--seed", str(seed), "--out", folder])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", nargs="*", choices=windows.WINDOWS, metavar="NAME"
    )
    given = parser.parse_args()
    for name, drawing in drawings().items():
        drawing.save(PICTURES / f"{name}.svg")
        drawing.save(GOLDEN / f"{name}.dot")
    print(f"drawings: {len(drawings())}")
    if given.experiments is not None:
        for name in given.experiments or windows.WINDOWS:
            run(name)


if __name__ == "__main__":
    main()

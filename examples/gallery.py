"""Make the gallery anew: all its pictures, light and dark, and all its numbers.

    python examples/gallery.py                 the drawings, in seconds
    python examples/gallery.py --experiments   the experiments too, in minutes

Pictures go to examples/pictures. What an experiment prints goes between its two marks
in examples/README.md, so that the page has no number that no script printed. With
$MNIST_DIR, experiments on images run on MNIST.
"""

import argparse
import importlib
import io
import re
import time
from contextlib import redirect_stdout
from pathlib import Path

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
PAGE = HERE / "README.md"
GOLDEN = HERE.parent / "tests" / "golden" / "gallery"
DRAWN = (
    "why_bias_cancels", "batch_norm_routes", "which_cut", "two_definitions",
    "draw_network",
)  # fmt: skip
MEASURED = (
    "bias_blow_up", "bias_is_redundant", "gamma_and_beta", "moving_averages",
    "covariate_shift", "gradient_flow", "scale_invariance", "batch_noise",
    "loss_landscape", "backward_by_hand", "diagnostics",
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
    """Run an experiment in full, keep its pictures, and put its numbers on the page."""
    began, printed = time.perf_counter(), io.StringIO()
    with redirect_stdout(printed):
        script = importlib.import_module(name)
        script.main(["--out", str(PICTURES), "--theme", "both"])
    lines = printed.getvalue().splitlines()
    numbers = "\n".join(line for line in lines if not line.startswith("picture: "))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_numbers(page, name, numbers.strip()), encoding="utf-8")
    print(f"{name}: {time.perf_counter() - began:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", nargs="*", choices=MEASURED, metavar="NAME")
    given = parser.parse_args()
    for name, drawing in drawings().items():
        drawing.save(PICTURES / f"{name}.svg")
        drawing.save(GOLDEN / f"{name}.dot")
    print(f"drawings: {len(drawings())}")
    if given.experiments is not None:
        for name in given.experiments or MEASURED:
            run(name)


if __name__ == "__main__":
    main()

"""Rebuild the pictures of the page that stand elsewhere.

    python tools/make_page_pictures.py

The README opens with chapter 1, as Chromium shows it, light and dark (``page.png`` and
``page-dark.png`` in examples/pictures/). The tutorial's section on the mean opens with
the four dots of the same chapter (``four_dots.svg``, which serves both themes). Run
``python examples/page.py`` first.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PICTURES = EXAMPLES / "pictures"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "tests")]

from browser import browser

import page
from parts.page import bias

WIDTH, HEIGHT, SCALE = 830, 408, 1.5  # of chapter 1 in the README, in CSS pixels


def four_dots() -> str:
    return bias.picture(page.read("figures.css"))


def main() -> None:
    (PICTURES / "four_dots.svg").write_text(four_dots(), encoding="utf-8")
    size = {"width": WIDTH, "height": 2 * HEIGHT}
    with browser() as chromium:
        for name, scheme in (("page", "light"), ("page-dark", "dark")):
            window = chromium.new_page(
                viewport=size, color_scheme=scheme, device_scale_factor=SCALE
            )
            window.goto((EXAMPLES / "page" / "index.html").as_uri())
            top = window.locator("#bias").bounding_box()["y"]
            clip = {"x": 0, "y": top, "width": WIDTH, "height": HEIGHT}
            window.screenshot(path=PICTURES / f"{name}.png", clip=clip)


if __name__ == "__main__":
    main()

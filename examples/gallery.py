"""Make all pictures of the gallery anew, light and dark, and the DOT text the tests
expect.

    python examples/gallery.py

Pictures go to examples/pictures, where README.md and examples/README.md show them.
"""

from pathlib import Path

import batch_norm_routes
import draw_network
import two_definitions
import which_cut
import why_bias_cancels

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
GOLDEN = HERE.parent / "tests" / "golden" / "gallery"
DRAWN = (why_bias_cancels, batch_norm_routes, which_cut, two_definitions, draw_network)


def drawings() -> dict:
    """Every drawing of the gallery, by file name without its ending."""
    return {
        name + suffix: drawing
        for script in DRAWN
        for theme, suffix in (("light", ""), ("dark", "-dark"))
        for name, drawing in script.drawings(theme).items()
    }


def main() -> None:
    for name, drawing in drawings().items():
        print(drawing.save(PICTURES / f"{name}.svg").relative_to(HERE.parent))
        drawing.save(GOLDEN / f"{name}.dot")


if __name__ == "__main__":
    main()

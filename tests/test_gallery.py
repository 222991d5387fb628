"""The gallery: its drawings are those that its scripts make today."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
PICTURES, GOLDEN = ROOT / "examples" / "pictures", ROOT / "tests" / "golden" / "gallery"
sys.path.insert(0, str(ROOT / "examples"))

import gallery

DRAWINGS = gallery.drawings()


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_of_the_gallery_is_the_one_that_was_reviewed(name):
    golden = (GOLDEN / f"{name}.dot").read_text(encoding="utf-8")
    assert DRAWINGS[name].source == golden, "review it, then run examples/gallery.py"


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_of_the_gallery_is_an_svg_that_points_nowhere(name):
    text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in text
    assert "<script" not in text


def test_a_picture_shows_the_numbers_of_its_drawing():
    text = (PICTURES / "why_bias_cancels.svg").read_text(encoding="utf-8")
    for number in ("+0.75", "−0.75", "+1.50", "−1.50", "+1.25", "−1.25", "−5.5"):
        assert f">{number}<" in text


def test_every_drawing_stands_in_the_gallery_light_and_dark():
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name in DRAWINGS:
        assert f'"pictures/{name}.svg"' in page


@pytest.mark.parametrize("name", gallery.MEASURED)
def test_every_experiment_stands_in_the_gallery_with_numbers_and_pictures(name):
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert f"`python examples/{name}.py`" in page
    (numbers,) = re.findall(
        f"<!-- numbers: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL
    )
    assert re.search(r"\d", numbers)
    for suffix in ("", "-dark"):
        assert f'"pictures/{name}{suffix}.png"' in page
        assert (PICTURES / f"{name}{suffix}.png").exists()


def test_new_numbers_replace_the_old_ones_of_their_experiment_only():
    marks = "<!-- numbers: {} -->\n{}<!-- end -->\n"
    page = marks.format("one", "old\n") + marks.format("two", "")
    new = gallery.with_numbers(page, "one", "1.5")
    assert new == page.replace("old\n", "```text\n1.5\n```\n")
    with pytest.raises(ValueError, match="must have the marks <!-- numbers: three -->"):
        gallery.with_numbers(page, "three", "3")

"""The gallery: its drawings are those of today, and its statements were checked."""

import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PICTURES, GOLDEN = ROOT / "examples" / "pictures", ROOT / "tests" / "golden" / "gallery"
sys.path.insert(0, str(ROOT / "examples"))

import covariate_shift
import gallery
import windows

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


@pytest.mark.parametrize("name", windows.WINDOWS)
def test_every_experiment_stands_in_the_gallery_with_numbers_and_pictures(name):
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert f"`python examples/{name}.py`" in page
    (numbers,) = re.findall(
        f"<!-- numbers: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL
    )
    measured, checked = numbers.split("Checked, over seeds\n")
    assert re.search(r"\d", measured)
    _, *statements = checked.removesuffix("```\n").splitlines()
    assert statements
    assert all(line.endswith("  yes") for line in statements)
    for suffix in ("", "-dark"):
        assert f'"pictures/{name}{suffix}.png"' in page
        assert (PICTURES / f"{name}{suffix}.png").exists()


def test_new_numbers_replace_the_old_ones_of_their_experiment_only():
    marks = "<!-- numbers: {} -->\n{}<!-- end -->\n"
    page = marks.format("one", "old\n") + marks.format("two", "")
    new = gallery.with_numbers(page, "one", "1.5")
    assert new == page.replace("old\n", "```text\n1.5\n```\n")
    with pytest.raises(ValueError) as error:
        gallery.with_numbers(page, "three", "3")
    assert str(error.value) == (
        "README.md must have the marks <!-- numbers: three --> and <!-- end -->: "
        "put them where the numbers of three belong."
    )


@pytest.fixture
def small_gallery(tmp_path, monkeypatch):
    """A gallery of one experiment in a folder of its own, and what it measures."""

    def main(arguments):
        folder = Path(arguments[arguments.index("--out") + 1])
        (folder / "small.png").write_text("new", encoding="utf-8")
        print(f"picture: {folder / 'small.png'}")
        print("a number: 1.5")
        return measured[0]

    measured = [1.5]
    page = tmp_path / "README.md"
    page.write_text("<!-- numbers: small -->\n<!-- end -->\n", encoding="utf-8")
    (tmp_path / "small.png").write_text("old", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "small", SimpleNamespace(main=main))
    monkeypatch.setattr(gallery, "PAGE", page)
    monkeypatch.setattr(gallery, "PICTURES", tmp_path)
    check = {"small": lambda runs: [windows.window("it", runs, low=1)]}
    monkeypatch.setattr(windows, "WINDOWS", check)
    return measured, page, tmp_path / "small.png"


def test_what_holds_comes_on_the_page_with_its_picture(small_gallery):
    _, page, picture = small_gallery
    gallery.run("small")
    text = page.read_text(encoding="utf-8")
    assert "```text\na number: 1.5\n\nChecked, over seeds\n" in text
    assert "picture: " not in text
    assert picture.read_text(encoding="utf-8") == "new"


def test_what_does_not_hold_leaves_the_page_and_the_picture_alone(small_gallery):
    measured, page, picture = small_gallery
    before = page.read_text(encoding="utf-8")
    measured[0] = 0.5
    with pytest.raises(AssertionError):
        gallery.run("small")
    assert page.read_text(encoding="utf-8") == before
    assert picture.read_text(encoding="utf-8") == "old"


def test_experiments_without_mnist_are_an_error(monkeypatch, capsys):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    with pytest.raises(SystemExit):
        gallery.main(["--experiments"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        "error: --experiments must run on MNIST, whose numbers the page shows: "
        "set MNIST_DIR"
    )


# --- What the experiments must show ---------------------------------------------------


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([1.0, 2.0], True),
        ([1.0, 3.5], False),
        ([1.0, -1.0], False),
        ([1.0, math.nan], False),
        ([], False),
    ],
)
def test_a_window_holds_if_every_value_is_a_number_between_its_bounds(values, holds):
    assert windows.window("", values, low=0, high=3).holds is holds


def test_a_statement_that_does_not_hold_is_an_error_that_shows_what_was_measured():
    right = windows.window("slope", [0.99, 1.01], 0.9, 1.1)
    assert windows.checked([right]).splitlines() == [
        "Checked, over seeds",
        "             measured     must be  holds",
        "  slope  0.99 to 1.01  0.9 to 1.1    yes",
    ]
    wrong = windows.window("loss", [0.1, 0.7], high=0.5)
    with pytest.raises(AssertionError) as error:
        windows.checked([right, wrong])
    assert str(error.value).splitlines()[-1] == (
        "  loss     0.1 to 0.7       < 0.5     NO"
    )


def shift(accuracies, spreads):
    """A run of ``covariate_shift`` at the steps 1000 and 5000."""
    percentiles = np.array([[[0.0], [0.0], [spread]] for spread in spreads])
    return covariate_shift.Run(
        np.array([1000, 5000]), np.array(accuracies), percentiles
    )


def test_windows_are_open_for_the_right_results_only():
    right = {"without": shift([0.4, 0.9], [0.1, 3]), "with": shift([0.9, 0.95], [2, 3])}
    assert all(w.holds for w in windows.of_covariate_shift([right]))
    exchanged = {"without": right["with"], "with": right["without"]}
    assert not any(w.holds for w in windows.of_covariate_shift([right, exchanged]))

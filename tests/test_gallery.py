"""The gallery: its drawings are up to date, and its claims were checked."""

import importlib
import math
import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import make_gallery
from make_gallery import EXAMPLES, EXPERIMENTS, GOLDEN, PICTURES
from parts.covariate_shift.claims import claims as claims_of_covariate_shift
from parts.covariate_shift.run import Run
from support.claims import checked, claim, derived

REVIEWED = sorted(path.stem for path in GOLDEN.glob("*.dot"))
NAMES = [f"{name}{theme}" for name in REVIEWED for theme in ("", "-dark")]


@pytest.fixture(scope="module")
def drawings():
    return make_gallery.drawings()


def test_every_drawing_of_the_gallery_was_reviewed(drawings):
    assert sorted(drawings) == sorted(NAMES)


@pytest.mark.parametrize("name", REVIEWED)
def test_a_drawing_of_the_gallery_is_the_one_that_was_reviewed(drawings, name):
    golden = (GOLDEN / f"{name}.dot").read_text(encoding="utf-8")
    assert drawings[name].source == golden, "review it, then run tools/make_gallery.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_the_gallery_is_an_svg_without_links(name):
    text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in text
    assert "<script" not in text


def test_a_picture_shows_the_numbers_of_its_drawing():
    text = (PICTURES / "why_bias_cancels.svg").read_text(encoding="utf-8")
    for number in ("+0.75", "−0.75", "+1.50", "−1.50", "+1.25", "−1.25", "−5.5"):
        assert f">{number}<" in text


def test_every_drawing_is_in_the_gallery_light_and_dark():
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        assert f'"pictures/{name}.svg"' in page


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_in_the_gallery_with_numbers_and_pictures(name):
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    assert f"`python examples/{name}.py`" in page
    (numbers,) = re.findall(
        f"<!-- numbers: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL
    )
    measured, statements = numbers.split("Checked, over seeds\n")
    assert re.search(r"\d", measured)
    _, *statements = statements.split("\n```\n")[0].splitlines()
    assert statements
    assert all(line.endswith("  yes") for line in statements)
    for suffix in ("", "-dark"):
        assert f'"pictures/{name}{suffix}.png"' in page
        assert (PICTURES / f"{name}{suffix}.png").exists()


def test_every_link_of_the_page_leads_somewhere():
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="(\w+)"></a>', page)
    assert len(anchors) == len(set(anchors))
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (EXAMPLES / target).exists(), target


def test_the_table_of_contents_lists_every_question():
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    contents, rest = page.split('<a id="questions_answered"></a>')
    listed = re.findall(r"^\| \[.*?\]\(#(\w+)\) \|", contents, re.MULTILINE)
    sections = re.findall(r'<a id="(\w+)"></a>\n\n## .*\?\n', rest)
    assert listed == sections


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_section_says_what_is_not_shown_and_where_it_is_from(name):
    page = make_gallery.PAGE.read_text(encoding="utf-8")
    section = page.split(f'<a id="{name}"></a>')[1].split("<a id=")[0]
    assert "\nNot shown: " in section
    assert "\nSource: " in section


def test_new_numbers_replace_the_old_ones_of_their_experiment_only():
    marks = "<!-- numbers: {} -->\n{}<!-- end -->\n"
    page = marks.format("one", "old\n") + marks.format("two", "")
    new = make_gallery.with_numbers(page, "one", "1.5")
    folded = "```text\n1.5\n```\n".join(make_gallery.FOLDED)
    assert new == page.replace("old\n", folded)
    assert make_gallery.with_numbers(new, "one", "1.5") == new
    with pytest.raises(ValueError) as error:
        make_gallery.with_numbers(page, "three", "3")
    assert str(error.value) == (
        "README.md must contain the marks <!-- numbers: three --> and <!-- end -->: "
        "put them where the numbers of three belong."
    )


@pytest.fixture
def small_gallery(tmp_path, monkeypatch):
    """A gallery of one experiment, which measures 1.5 for its first seed, and its page.

    For its second seed, the experiment measures the value in the returned list.
    """

    def main(arguments):
        options = dict(zip(arguments[::2], arguments[1::2]))
        folder = tmp_path / options["--out"]
        (folder / "small.png").write_text(options["--seed"], encoding="utf-8")
        print(f"picture: {folder / 'small.png'}")
        print("a number: 1.5")
        return 1.5 if options["--seed"] == "0" else measured[0]

    def claims(runs):
        return [claim("it", runs, low=1)]

    measured = [2.5]
    page = tmp_path / "README.md"
    page.write_text("<!-- numbers: small -->\n<!-- end -->\n", encoding="utf-8")
    (tmp_path / "small.png").write_text("old", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "small", SimpleNamespace(main=main))
    part = SimpleNamespace(SEEDS=(0, 7), claims=claims)
    monkeypatch.setitem(sys.modules, "parts.small", SimpleNamespace(claims=part))
    monkeypatch.setitem(sys.modules, "parts.small.claims", part)
    monkeypatch.setattr(make_gallery, "PAGE", page)
    monkeypatch.setattr(make_gallery, "PICTURES", tmp_path)
    return measured, page, tmp_path / "small.png"


def test_if_the_claims_hold_the_page_shows_the_numbers_and_the_picture(small_gallery):
    _, page, picture = small_gallery
    make_gallery.rebuild("small")
    text = page.read_text(encoding="utf-8")
    assert "```text\na number: 1.5\n\nChecked, over seeds\n" in text
    assert "  it  1.5 to 2.5      > 1    yes\n" in text
    assert "picture: " not in text
    assert picture.read_text(encoding="utf-8") == "0"


def test_if_a_claim_does_not_hold_neither_page_nor_picture_change(small_gallery):
    measured, page, picture = small_gallery
    before = page.read_text(encoding="utf-8")
    measured[0] = 0.5
    with pytest.raises(AssertionError):
        make_gallery.rebuild("small")
    assert page.read_text(encoding="utf-8") == before
    assert picture.read_text(encoding="utf-8") == "old"


def test_experiments_without_mnist_are_an_error(monkeypatch, capsys):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    with pytest.raises(SystemExit):
        make_gallery.main(["--experiments"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        "error: --experiments must run on MNIST, whose numbers the page shows: "
        "set MNIST_DIR"
    )


# --- Claims ---------------------------------------------------------------------------


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
def test_a_claim_holds_if_every_value_is_a_number_between_its_bounds(values, holds):
    assert claim("", values, low=0, high=3).holds is holds


def test_a_claim_that_does_not_hold_is_an_error_that_shows_what_was_measured():
    right = claim("slope", [0.99, 1.01], 0.9, 1.1)
    assert checked([right]).splitlines() == [
        "Checked, over seeds",
        "             measured     must be  holds",
        "  slope  0.99 to 1.01  0.9 to 1.1    yes",
    ]
    wrong = claim("loss", [0.1, 0.7], high=0.5)
    with pytest.raises(AssertionError) as error:
        checked([right, wrong])
    assert str(error.value).splitlines()[-1] == (
        "  loss     0.1 to 0.7       < 0.5     NO"
    )


def test_derived_claims_have_a_table_of_their_own():
    text = checked([claim("loss", [0.1], high=1), derived("law", [1e-16], high=1e-9)])
    first, second = text.split("\n\n")
    assert first.startswith("Derived, the same for every seed\n")
    assert "  law " in first
    assert second.startswith("Checked, over seeds\n")
    with pytest.raises(AssertionError):
        checked([derived("law", [1e-3], high=1e-9)])


def test_unseen_seeds_are_counted_and_change_nothing(small_gallery, monkeypatch):
    measured, page, picture = small_gallery
    before = page.read_text(encoding="utf-8")
    run, seeds = make_gallery.run, []

    def recorded_run(script, arguments):
        seeds.append(arguments[arguments.index("--seed") + 1])
        return run(script, arguments)

    monkeypatch.setattr(make_gallery, "run", recorded_run)
    measured[0] = 0.5
    text = make_gallery.check_unseen("small", 4, first=100)
    assert seeds == ["100", "101", "102", "103"]
    assert text.splitlines()[0] == "small, over 4 seeds or more, from 100 on"
    assert text.splitlines()[-1].split() == ["it", "0.5", ">", "1", "0", "of", "4"]
    measured[0] = 1.25
    assert make_gallery.check_unseen("small", 4, first=3).endswith("4 of 4")
    assert page.read_text(encoding="utf-8") == before
    assert picture.read_text(encoding="utf-8") == "old"


def shift(accuracies, spreads):
    """Observations of ``covariate_shift`` at the steps 1000 and 5000."""
    percentiles = np.array([[[0.0], [0.0], [spread]] for spread in spreads])
    return Run(np.array([1000, 5000]), np.array(accuracies), percentiles, lr=0.1)


def test_claims_hold_for_the_right_results_only():
    right = {
        "without": shift([0.4, 0.9], [0.1, 3]),
        "with": shift([0.9, 0.95], [2, 3]),
        "without, high": shift([0.9, 0.95], [0.1, 3]),
        "with, high": shift([0.9, 0.95], [2, 3]),
    }
    assert all(c.holds for c in claims_of_covariate_shift([right]))
    exchanged = {
        "without": right["with"],
        "with": right["without"],
        "without, high": shift([0.4, 0.5], [0.1, 3]),
        "with, high": shift([0.9, 0.95], [2, 3]),
    }
    assert not any(c.holds for c in claims_of_covariate_shift([right, exchanged]))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_script_with_claims_about_seeds(name):
    part = importlib.import_module(f"parts.{name}.claims")
    assert (EXAMPLES / f"{name}.py").exists()
    assert part.SEEDS in ((0,), (0, 1, 2))


def test_scripts_do_not_import_scripts():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    for path in EXAMPLES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE)
        assert scripts.isdisjoint(imported), path


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_the_help_of_a_script_describes_each_option_and_names_its_defaults(
    name, capsys
):
    with pytest.raises(SystemExit):
        importlib.import_module(name).main(["--help"])
    _, shown = capsys.readouterr().out.split("\noptions:\n")
    for option in re.findall(r"^  -.*(?:\n {10,}.*)*", shown, re.MULTILINE):
        described = re.sub(r"\s+", " ", re.split(r"\S {2,}|\n", option, maxsplit=1)[-1])
        assert described.strip() != option.strip(), option
        assert "None" not in described
        if "{" in option or option.startswith("  --out"):
            assert "default" in described, option

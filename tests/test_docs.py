"""The API reference: it renders without warnings, and its glossaries are readable."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

COMMAND = (
    "python -W error -m pdoc -d markdown -t tools/reference -o site tinygrad_bn "
    "'!tinygrad_bn.draw' '!tinygrad_bn.summary' '!tinygrad_bn.tape'"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of the reference, by file name, without source code and markup."""
    pytest.importorskip("pdoc")
    folder = tmp_path_factory.mktemp("site")
    arguments = shlex.split(COMMAND.replace("-o site", f"-o {folder}"))[1:]
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return {
        path.name: re.sub(
            r'<div class="pdoc-code.*?</pre>|<[^>]*>',
            "",
            path.read_text("utf-8"),
            flags=re.DOTALL,
        )
        for path in folder.rglob("*.html")
    }


@pytest.mark.slow
def test_the_reference_renders_without_warnings_and_has_every_part(pages):
    # draw, summary and tape are documented as functions, in tinygrad_bn.html.
    assert {*pages} == {"index.html", "tinygrad_bn.html", "nn.html", "optim.html"}
    for name in ("Tensor", "batch_norm", "explain", "draw", "summary", "tape", "relu"):
        assert name in pages["tinygrad_bn.html"]


@pytest.mark.slow
def test_the_reference_shows_the_docstrings_of_primitives(pages):
    text = " ".join(pages["tinygrad_bn.html"].split())
    assert "primitive relu max(x, 0), elementwise; slope 0 at 0." in text
    assert "primitive tanh The hyperbolic tangent, elementwise." in text


@pytest.mark.slow
def test_the_reference_shows_no_attribute_that_no_docstring_describes(pages):
    (index,) = re.findall(
        r"API Documentation(.*?)built with", pages["optim.html"], re.DOTALL
    )
    assert index.split() == [
        "SGD", "SGD", "Adam", "Adam", "AdamW", "AdamW", "Optimizer", "Optimizer", "lr",
        "zero_grad", "step", "state_dict", "load_state_dict", "clip_grad_norm",
        "cosine_lr", "step_lr",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_reference_shows_no_raw_rules_of_tables(pages):
    assert [name for name, text in pages.items() if "=====" in text] == []


@pytest.mark.parametrize("file", ["CONTRIBUTING.md", ".github/workflows/ci.yml"])
def test_the_documented_command_for_the_reference_is_the_one_tested_here(file):
    path = ROOT / file
    if not path.exists():
        pytest.skip("the source distribution has no workflows")
    assert COMMAND in path.read_text(encoding="utf-8")

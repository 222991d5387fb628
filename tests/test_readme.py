"""The README: its code runs, its table is what is printed, its links lead somewhere."""

import re
import runpy

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a block of code in an empty folder, and return its names."""
    monkeypatch.chdir(tmp_path)

    def run(code):
        if "import torch" in code:
            pytest.importorskip("torch")
            pytest.importorskip("safetensors")
        path = tmp_path / "block.py"
        path.write_text(code, encoding="utf-8")
        return runpy.run_path(str(path))

    return run


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_of_the_readme_runs(run, number):
    run(BLOCKS[number])


def test_the_table_in_the_readme_is_what_explain_prints(run, capsys):
    run(BLOCKS[0])
    (table,) = re.findall(r"^```text\n(route.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == table


def test_the_network_of_the_readme_learns(run):
    assert run(BLOCKS[1])["loss"].item() < 0.5


def test_the_primitive_of_the_readme_is_the_integral_of_the_sigmoid(run):
    softplus = run(next(code for code in BLOCKS if "Primitive" in code))["softplus"]
    assert abs(softplus(0.0) - 0.6931471805599453) < 1e-15


@pytest.mark.slow
@pytest.mark.peers
def test_the_redundant_bias_of_the_pytorch_network_is_found(run, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    run(next(code for code in BLOCKS if "import torch" in code))
    printed = capsys.readouterr().out
    finding = printed.splitlines()[0]
    assert finding in " ".join(README.split())
    assert "contribution to dloss/d0.bias" in printed


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    for target in (inline or image for inline, image in links):
        assert (ROOT / target).exists(), target

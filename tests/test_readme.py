"""The README: its code runs, its two commands are there, its table is what is
printed."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[-2][:40])
def test_code_of_the_readme_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {})


def test_the_table_in_the_readme_is_what_explain_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    (table,) = re.findall(r"^```text\n(route.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == table


def test_the_weights_go_to_pytorch_and_back():
    torch = pytest.importorskip("torch")
    names = {}
    exec(next(block for block in BLOCKS if "import torch" in block), names)
    ours, theirs = names["ours"], names["theirs"]
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert (ours(x.numpy()).data - theirs(x).detach().numpy()).max() < 1e-6


def test_links_of_the_readme_lead_to_files():
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    for target in (a or b for a, b in links):
        assert (root / target).exists(), target

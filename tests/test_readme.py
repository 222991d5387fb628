"""The README: its code runs, its table is what is printed, its links lead somewhere."""

import ast
import functools
import re
import runpy

import numpy as np
import pytest
from conftest import ROOT

PACKAGE = ROOT / "tinygrad_bn"
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


def test_the_longer_run_of_the_readme_continues_where_it_was_interrupted(run):
    code = next(code for code in BLOCKS if "tg.load" in code)
    whole = run(code)
    whole["path"].unlink()
    run(code.replace("range(start, 200)", "range(start, 100)"))
    resumed = run(code)
    assert resumed["start"] == 100
    for name, values in whole["model"].state_dict().items():
        np.testing.assert_array_equal(resumed["model"].state_dict()[name], values)
    assert whole["loss"].item() < 0.1


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
    links = re.findall(r"\]\(([^)#]+)[)#]|(?:src|srcset)=\"([^\"]+)\"", README)
    for target in (inline or image for inline, image in links):
        assert (ROOT / target).exists(), target


def test_links_of_the_readme_into_the_gallery_lead_to_its_sections():
    gallery = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r'<a id="(\w+)">', gallery)
    links = re.findall(r"\]\(examples/README\.md#(\w+)\)", README)
    assert links
    assert {*links} <= {*sections}


# --- The reading order ----------------------------------------------------------------


def files_named(text):
    return re.findall(r"``(\w+\.py|draw/)``", text)


@functools.cache
def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def reading_order(folder):
    """The numbered list in the docstring of a package."""
    listed = re.split(r"\n\n(?!\d+\.)", docstring(folder / "__init__.py"))
    return files_named(next(part for part in listed if "\n1. " in part))


def imported(path, root):
    """The files of the package that a file imports when it is itself imported."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.level:
            base = path.parents[statement.level - 1]
            modules = [statement.module or alias.name for alias in statement.names]
            for module in modules:
                inside = base / module
                yield inside if inside.is_dir() else inside.with_suffix(".py")


def test_the_package_and_the_readme_list_the_same_reading_order():
    (table,) = re.findall(r"(?ms)^\| file \| content \|\n(.*?)\n\n", README)
    assert re.findall(r"\[([\w/.]+)\]", table) == reading_order(PACKAGE)


@pytest.mark.parametrize("folder", [PACKAGE, PACKAGE / "draw"], ids=lambda f: f.name)
def test_a_file_imports_only_files_that_come_before_it(folder):
    order = [(folder / name).with_suffix("") for name in reading_order(folder)]
    files = {path.with_suffix("") for path in folder.glob("*.py")}
    folders = {folder / "draw"} if folder == PACKAGE else set()
    assert {*order} == files - {folder / "__init__"} | folders
    # The first four files are read first, although they use the helpers and tensors.
    first = 4 if folder == PACKAGE else 0
    for i, path in enumerate(order[first:], first):
        sources = [*path.glob("*.py")] or [path.with_suffix(".py")]
        for used in {f.with_suffix("") for s in sources for f in imported(s, folder)}:
            if used.parent == folder and used not in folders:
                assert used in order[:i], f"{path.name} imports {used.name}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_file_says_what_it_comes_after_and_what_is_left_out(path):
    text = docstring(path)
    assert "Left out on purpose:" in text
    if path == PACKAGE / "__init__.py":
        return
    order = reading_order(PACKAGE)
    at_draw = order.index("draw/")
    order[at_draw : at_draw + 1] = ["draw/", *reading_order(PACKAGE / "draw")]
    name = path.name if path.stem != "__init__" else "draw/"
    start = at_draw + 1 if path.parent.name == "draw" and name != "draw/" else 0
    here = order.index(name, start)
    (place,) = re.findall(r"(?ms)^(?:This (?:file|package)|Start) .*?\.$", text)
    before, after = order[:here], order[here + 1 :]
    for clause in re.split(r"; |, and |\. ", place.replace("\n", " ")):
        if "imports no other" in clause:
            assert not [*imported(path, PACKAGE)]
        if "comes after" in clause:
            assert {*files_named(clause)} <= {*before}
        if "before" in clause or "next" in clause:
            assert {*files_named(clause)} <= {*after}

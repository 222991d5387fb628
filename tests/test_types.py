"""What an editor and a type checker see of the package."""

import importlib.util
import inspect
import json
import os
import pydoc
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import user_program
from conftest import ROOT

import tinygrad_bn as tg
from tinygrad_bn import Tensor

PACKAGE = Path(tg.__file__).parent


def run_tool(module, *arguments):
    """Run ``python -m module`` at the root, where its settings are."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )


def public_signatures(namespace, prefix="tg"):
    """Names and callables: functions, methods and operators that users may call."""
    for name in public_names(namespace):
        value, place = getattr(namespace, name), f"{prefix}.{name}"
        if isinstance(value, ModuleType):
            yield from public_signatures(value, place)
        elif isinstance(value, type):
            yield from methods(value, place)
        elif callable(value):
            yield place, value if isinstance(value, FunctionType) else value.__call__


def public_names(module):
    written_here = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
    ]
    return getattr(module, "__all__", written_here)


def methods(kind, place):
    """The public methods, operators and properties that a class or its bases define."""
    members = {k: v for base in reversed(kind.__mro__) for k, v in vars(base).items()}
    for name, value in members.items():
        for function in functions_of(value):
            # Methods made by dataclasses or by Python's own classes do not count.
            written_here = PACKAGE in Path(function.__code__.co_filename).parents
            dunder = name.startswith("__") and name.endswith("__")
            if written_here and (dunder or not name.startswith("_")):
                yield f"{place}.{name}", function


def functions_of(member):
    if isinstance(member, property):
        return [f for f in (member.fget, member.fset) if f is not None]
    member = getattr(member, "__func__", member)  # of a class method or static method
    return [member] if isinstance(member, FunctionType) else []


def missing_annotations(function):
    signature = inspect.signature(function)
    names = [
        name
        for i, (name, parameter) in enumerate(signature.parameters.items())
        if parameter.annotation is parameter.empty
        and not (i == 0 and name in ("self", "cls"))
    ]
    initializes = function.__name__ in ("__init__", "__init_subclass__")
    if signature.return_annotation is signature.empty and not initializes:
        names.append("return")
    return names


def test_every_public_signature_has_complete_annotations():
    missing = {
        place: names
        for place, function in public_signatures(tg)
        if (names := missing_annotations(function))
    }
    assert missing == {}


def test_the_search_for_missing_annotations_finds_them():
    def function(x, y: int, *rest: int, **options):
        return x

    class Example:
        def method(self, x: int):
            return x

    assert missing_annotations(function) == ["x", "options", "return"]
    assert missing_annotations(Example.method) == ["return"]
    assert missing_annotations(Example().method) == ["return"]
    places = dict(public_signatures(tg))
    assert {"tg.grad", "tg.relu", "tg.Tensor.backward", "tg.Tensor.__matmul__"} <= {
        *places
    }
    assert {"tg.nn.Linear.forward", "tg.optim.Adam.step", "tg.draw"} <= {*places}


def test_the_user_program_runs(tmp_path):
    # The loss, the sum of its gradient, and twice the loss.
    assert user_program.operators() == 28.75 + 15.5 + 57.5
    assert user_program.network()[1] < 0.5
    assert "via 1.norm.E[x]" in user_program.inspection(tmp_path)
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    expected = np.logaddexp(x - x.mean(axis=0), 0)
    np.testing.assert_allclose(
        user_program.batch_norm(Tensor(x)).data, expected, atol=1e-12
    )


@pytest.mark.slow
def test_mypy_accepts_the_package_and_the_user_program():
    result = run_tool("mypy", "--no-error-summary")
    assert result.stdout + result.stderr == ""


@pytest.mark.slow
def test_pyright_accepts_the_user_program():
    result = run_tool("pyright", "--pythonpath", sys.executable, "--outputjson")
    try:
        report = json.loads(result.stdout)
    except json.JSONDecodeError:
        pytest.skip("pyright could not start")
    complaints = [
        f"{d['file']}:{d['range']['start']['line'] + 1}: {d['message']}"
        for d in report["generalDiagnostics"]
    ]
    assert complaints == []
    assert report["summary"]["filesAnalyzed"] >= 1


MISTAKES = """
import numpy as np
import tinygrad_bn as tg

x = tg.Tensor([1.0])
array: np.ndarray = tg.relu(x)
tensor: tg.Tensor = tg.relu(np.ones(2))
x.meen()
y: int = x.sum()
tg.nn.Linear("3", 4)
tg.optim.SGD([x], lr="fast")
tg.draw(x, directions="LR")
"""


@pytest.mark.slow
def test_mypy_rejects_what_is_wrong(tmp_path):
    program = tmp_path / "mistakes.py"
    # mypy's cache would report the path of an earlier run with the same text.
    program.write_text(f"{MISTAKES}# {program}\n", encoding="utf-8")
    result = run_tool("mypy", "--no-error-summary", str(program))
    complaints = [
        int(line.split(":")[1])
        for line in result.stdout.splitlines()
        if line.startswith(str(program)) and " error: " in line
    ]
    assert sorted(set(complaints)) == list(range(6, 13))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("tg.Tensor([1.0]).", {"sum", "mean", "T", "backward", "reshape", "grad"}),
        ("(tg.Tensor([1.0]) * 2).", {"sum", "mean", "T", "backward"}),
        ("tg.relu(tg.Tensor([1.0])).", {"sum", "mean", "T", "backward"}),
        ("tg.", {"relu", "grad", "explain", "draw", "nn", "optim"}),
        ("tg.nn.Linear(2, 3).", {"weight", "bias", "parameters", "state_dict"}),
        ("tg.optim.SGD([]).", {"step", "zero_grad", "lr"}),
    ],
)
def test_an_editor_completes_the_names_of_the_package(code, expected):
    jedi = pytest.importorskip("jedi")
    script = jedi.Script(
        f"import tinygrad_bn as tg\n{code}",
        path=ROOT / "completion.py",
        project=jedi.Project(ROOT),
    )
    assert expected <= {completion.name for completion in script.complete()}


@pytest.mark.parametrize("module", [tg, tg.nn, tg.optim], ids=lambda m: m.__name__)
def test_completion_in_a_notebook_offers_the_public_names_and_no_imports(module):
    jedi = pytest.importorskip("jedi")
    offered = jedi.Interpreter("module.", [{"module": module}]).complete()
    names = {c.name for c in offered if not c.name.startswith("__")}
    assert names == set(module.__all__)


def test_help_on_a_function_shows_its_own_docstring():
    for name in ("relu", "exp", "matmul", "concatenate", "grad"):
        function = getattr(tg, name)
        text = pydoc.plain(pydoc.render_doc(function))
        assert name in text
        first_line = inspect.getdoc(function).split("\n")[0]
        assert first_line in text
        assert first_line != inspect.getdoc(tg.Primitive).split("\n")[0]

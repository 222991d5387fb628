"""The mutation run: its sample is fixed, and its report counts what survived."""

import importlib
import resource
import sys

import pytest

# Importing cosmic_ray takes half a second.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mutate():
    pytest.importorskip("cosmic_ray")
    return importlib.import_module("mutate")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one file, whose only line of code is changed."""
    path = tmp_path / "tinygrad_bn" / "optim.py"
    path.parent.mkdir()
    path.write_text(
        '"""One."""\n\n\ndef f(x: int | None) -> float | None:\n    return x + 1\n'
    )
    monkeypatch.chdir(tmp_path)
    return path


def test_a_larger_sample_contains_a_smaller_one_and_no_annotations(mutate, project):
    everything = [mutate.key(m) for m in mutate.sample("optim", 1)]
    half = [mutate.key(m) for m in mutate.sample("optim", 0.5)]
    assert {*half} < {*everything}
    assert len(half) == round(len(everything) / 2)
    assert not any("BitOr_" in name for name in everything)
    assert sum("NumberReplacer" in name for name in everything) == 2


def test_another_seed_draws_another_sample_of_the_same_size(mutate, project):
    project.write_text("def f(x):\n    return x + 1 - 2 * x / 3\n")
    first, again, second = (
        [mutate.key(m) for m in mutate.sample("optim", 0.5, seed)] for seed in (1, 1, 2)
    )
    assert first == again != second
    assert len(first) == len(second)


def test_lines_that_send_signals_are_not_changed(mutate, project):
    project.write_text("def f(p):\n    os.kill(p, 0)\n    return p + 1\n")
    assert {m.start_pos[0] for m in mutate.sample("optim", 1)} == {3}


def test_a_run_that_takes_too_much_memory_or_time_is_ended(
    mutate, tmp_path, monkeypatch
):
    testing = importlib.import_module("cosmic_ray.testing")
    found = []

    def run(program, seconds):
        command = f'{sys.executable} -c "{program}"'
        found.append(testing.run_tests(command, seconds)[0].value)

    def test(*_):
        run("bytearray(2**29)", 60)
        run("bytearray(2**33)", 60)
        run("import time; time.sleep(60)", 0.1)

    monkeypatch.setattr(mutate, "test", test)
    monkeypatch.setattr(mutate, "work_in_a_copy", lambda _: None)
    options = ["--share", "0", "--results", str(tmp_path / "none")]
    monkeypatch.setattr(sys, "argv", ["mutate.py", *options])
    limit = resource.getrlimit(resource.RLIMIT_AS)
    try:
        mutate.main()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert found == ["survived", "killed", "killed"]


def test_a_result_counts_until_the_file_changes(mutate, project):
    def first():
        return mutate.key(mutate.sample("optim", 1)[0])

    before = first()
    project.write_text(project.read_text().replace("One.", "Two.") + "# A comment.\n")
    assert first() == before
    project.write_text(project.read_text().replace("x + 1", "x + 2"))
    assert first() != before
    assert first().split()[1:] == before.split()[1:]


def test_the_report_lists_survivors_and_gives_the_score(mutate):
    results = {
        "a": {"outcome": "killed", "line": 1, "diff": []},
        "b": {"outcome": "survived", "line": 7, "diff": ["-x + 1", "+x - 1"]},
        "c": {"outcome": "timeout", "line": 2, "diff": []},
        "d": {"outcome": "killed", "line": 3, "diff": []},
    }
    assert mutate.report(results, 5) == (
        "\nb, line 7\n-x + 1\n+x - 1\n\n"
        "4 of 5 mutants tested: {'killed': 2, 'survived': 1, 'timeout': 1}\n"
        "score: 75.0%"
    )
    assert mutate.report({}, 5).endswith("0 of 5 mutants tested: {}")

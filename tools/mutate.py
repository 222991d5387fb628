"""Mutation testing of the core: change the code a little, and see if a test fails.

    python tools/mutate.py                   a quarter of all mutants
    python tools/mutate.py --share 1         all of them, which takes hours
    python tools/mutate.py --sources optim   one file
    python tools/mutate.py --seed 1          another sample
    python tools/mutate.py --survivors       only those that survived, after new tests

    mutant      a copy of the project with one small change, such as + in place of -
    killed      a mutant for which a test fails or takes too long, as it should
    survivor    a mutant that no test notices: a test is missing, or the change makes no
                difference, and ``mutants.md`` gives the reason
    score       the share of the mutants that were killed

cosmic-ray makes the mutants, in a temporary copy of the project. The sample is random
and always the same for one seed. A run can be interrupted: results are appended to a
file, and the next run continues from there. A result counts as long as the code of the
file has not changed; comments may. Changes in annotations are left out, because nothing
depends on them.

A mutant is a program that nobody has read. So the tests of each have a time limit and a
memory limit, and lines that send signals to other processes are never changed.
"""

import argparse
import ast
import functools
import hashlib
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import TestOutcome, run_tests
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).parent.parent
# The fast tests of each file. The first of them fail soonest.
TESTS = {
    "arguments": "tensor ops batchnorm",
    "tape": "tensor ops nn batchnorm interrupts optim routes",
    "backward": "tensor ops check batchnorm interrupts nn",
    "axes": "ops compositions batchnorm layers",
    "ops": "ops tensor batchnorm nn check",
    "batchnorm": "batchnorm compositions layers nn check",
    "channels": "batchnorm layers nn check",
    "running": "batchnorm layers nn",
    "module": "nn layers pytorch",
    "optimizer": "optim interrupts checkpoint",
    "optim": "optim interrupts checkpoint",
    "checkpoint": "checkpoint safetensors",
    "files": "checkpoint render",
}
# Memory that each process may map; the tests need a third of it.
MEMORY = 4 * 2**30
# A mutant of this line would send a signal, perhaps to all processes of the user.
UNTOUCHED = re.compile(r"\bos\.(kill|killpg|abort)\(")


def main() -> None:
    """Test the mutants of the sample that have no result yet, and print the score."""
    options = parse()
    results_path = options.results.resolve()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    # The processes that run the tests inherit it.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, most))
    with tempfile.TemporaryDirectory() as folder:
        work_in_a_copy(Path(folder) / "project")
        mutants = {
            key(mutant): (source, mutant)
            for source in options.sources
            for mutant in sample(source, options.share, options.seed)
        }
        results = read(results_path)
        left = [name for name in mutants if name not in results]
        if options.survivors:
            left = [
                n for n in mutants if results.get(n, {}).get("outcome") == "survived"
            ]
        test(left, mutants, results_path)
    results = read(results_path)
    print(report({n: results[n] for n in mutants if n in results}, len(mutants)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tools/mutate.py",
        description="Test whether the tests notice small changes of the code.",
    )
    parser.add_argument("--sources", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument(
        "--share", type=float, default=0.25, help="share of all mutants (default: 0.25)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="which sample to draw (default: 0)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "build" / "mutants.jsonl",
        help="file that results are appended to (default: build/mutants.jsonl)",
    )
    parser.add_argument(
        "--survivors", action="store_true", help="test earlier survivors again"
    )
    return parser.parse_args()


def work_in_a_copy(copy: Path) -> None:
    """Copy the project and go there, so that no mutant is ever found in the project."""
    ignored = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignored)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)


def sample(source: str, share: float, seed: int = 0) -> list[MutationSpec]:
    """A random share of the mutants of a file; a larger one contains a smaller one."""
    path = Path("tinygrad_bn") / f"{source}.py"
    untouched = [*annotations(path), *dangerous_lines(path)]
    mutants = [
        mutant
        for item in _all_work_items([path], {})
        for mutant in item.mutations
        if not any(a <= mutant.start_pos and mutant.end_pos <= b for a, b in untouched)
    ]
    random.Random(f"{source} {seed}").shuffle(mutants)
    return mutants[: round(share * len(mutants))]


Range = tuple[tuple[int, int], tuple[int, int]]


def dangerous_lines(path: Path) -> Iterator[Range]:
    """The lines that send signals, from their first column to the end."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if UNTOUCHED.search(line):
            yield (number, 0), (number, len(line))


def annotations(path: Path) -> Iterator[Range]:
    """Where the annotations of a file start and end, as line and column."""
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("annotation", "returns"):
            if (found := getattr(node, field, None)) is not None:
                start, end = found.lineno, found.end_lineno
                yield (start, found.col_offset), (end, found.end_col_offset)


def key(mutant: MutationSpec) -> str:
    """What identifies a mutant, as long as the code of its file does not change."""
    version = version_of(mutant.module_path.read_text())
    operator = mutant.operator_name.partition("/")[2]
    return f"{mutant.module_path.name}@{version} {operator} {mutant.occurrence}"


@functools.cache
def version_of(source: str) -> str:
    """A short name for the code, whatever its comments and docstrings are."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                node.value.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:8]


def read(path: Path) -> dict[str, dict]:
    """The results so far; a later one replaces an earlier one."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["mutant"]: result for result in map(json.loads, lines)}


def test(names: list[str], mutants: dict, path: Path) -> None:
    """Append one line per mutant to the file at ``path``."""
    path.parent.mkdir(exist_ok=True)
    limits: dict[str, float] = {}
    for i, name in enumerate(names, start=1):
        source, mutant = mutants[name]
        if source not in limits:
            limits[source] = time_limit(source)
        found = mutate_and_test([mutant], command(source), limits[source])
        timeout = found.output == "timeout"
        outcome = "timeout" if timeout else found.test_outcome.value
        line = {"mutant": name, "line": mutant.start_pos[0], "outcome": outcome}
        line["diff"] = changed_lines(found.diff or "")
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{i} of {len(names)}: {outcome:8} {name}", flush=True)


def command(source: str) -> str:
    files = " ".join(f"tests/test_{name}.py" for name in TESTS[source].split())
    options = '-x -q -n 0 -p no:cacheprovider -m "not slow"'
    return f"{sys.executable} -m pytest {options} {files}"


def time_limit(source: str) -> float:
    """Seconds that the tests may take: several times what they usually take."""
    start = perf_counter()
    outcome, output = run_tests(command(source), None)
    if outcome != TestOutcome.SURVIVED:
        sys.exit(f"The tests of {source}.py must pass without a mutant.\n{output}")
    return max(60, 8 * (perf_counter() - start))


def changed_lines(diff: str) -> list[str]:
    return [
        line
        for line in diff.splitlines()
        if line[:1] in {"+", "-"} and not line.startswith(("+++", "---"))
    ]


def report(results: dict[str, dict], size: int) -> str:
    """The survivors with their changed lines, and the score."""
    lines, counts = [], Counter(result["outcome"] for result in results.values())
    for name, result in sorted(results.items()):
        if result["outcome"] == "survived":
            lines += [f"\n{name}, line {result['line']}", *result["diff"]]
    tested = sum(counts.values())
    lines.append(f"\n{tested} of {size} mutants tested: {dict(counts)}")
    if tested:
        lines.append(f"score: {1 - counts['survived'] / tested:.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What tests share: one BLAS thread, helpers, fixtures, and the marker ``peers``."""

import os
import sys
from pathlib import Path

# On matrices this small, a second thread only waits. NumPy reads these when imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import contextlib
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_bn import Tensor, nn

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SVG = "{http://www.w3.org/2000/svg}"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "tools")]


def pytest_collection_modifyitems(items):
    for item in items:
        if {"torch", "jax"} & {*item.fixturenames}:
            item.add_marker("peers")


def randn(*shape, seed=0):
    """Random numbers, the same for the same shape and seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(values, name=None, dtype=None):
    """A tensor that requires a gradient."""
    return Tensor(values, requires_grad=True, name=name, dtype=dtype)


def random_leaf(rng, *shape, name=None, dtype=float):
    return leaf(rng.standard_normal(shape), name, dtype)


class Net(nn.Module):
    """Members, and a forward pass given as a function."""

    def __init__(self, forward, **members):
        vars(self).update(members)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def nodes_behind(*tensors):
    """All outputs of operations that ``tensors`` were computed from, and themselves."""
    nodes, waiting = set(), list(tensors)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tensor) and node.op is not None and node not in nodes:
            nodes.add(node)
            waiting.extend(node.inputs)
    return nodes


def assert_same(a, b):
    """Assert equal types and values; in arrays, equal shapes and dtypes too."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def texts_of(svg):
    """The texts of a picture."""
    root = ElementTree.fromstring(svg)
    return [text.text for text in root.iter(f"{SVG}text") if text.text]


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Run an experiment with --quick, once per file of tests.

    It returns what the experiment measured, what it printed, and its output folder.
    """
    runs = {}

    def run(script):
        if script not in runs:
            folder, printed = tmp_path_factory.mktemp("out"), io.StringIO()
            with pytest.MonkeyPatch.context() as patch:
                # Without its folder, experiments do not use MNIST.
                patch.delenv("MNIST_DIR", raising=False)
                with contextlib.redirect_stdout(printed):
                    measured = script.main(["--quick", "--out", str(folder)])
            runs[script] = measured, printed.getvalue(), folder
        return runs[script]

    return run


@pytest.fixture(scope="session")
def digits():
    """The digits of scikit-learn, standardized."""
    from support.data import load

    return load("digits")

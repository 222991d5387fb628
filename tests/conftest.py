"""What tests share: one BLAS thread, small helpers, and experiments that run once."""

import os
import sys
from pathlib import Path

# On matrices this small, a second thread only waits. NumPy reads this when imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import contextlib
import io

import numpy as np
import pytest

from tinygrad_bn import Tensor

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "tools")]


def draw(*shape, seed=0):
    """Random numbers, the same for the same shape and seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(values, name=None, dtype=None):
    """A tensor that requires a gradient."""
    return Tensor(values, requires_grad=True, name=name, dtype=dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What an experiment measures, prints and draws with --quick; each runs once."""
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

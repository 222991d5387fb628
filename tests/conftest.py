"""What tests share: one BLAS thread, and the experiments, each run once."""

import os

# On matrices this small, a second thread only waits. NumPy asks when it is imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import contextlib
import io

import pytest


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What an experiment measures, prints and draws with --quick; each runs once."""
    runs = {}

    def run(script):
        if script not in runs:
            folder, printed = tmp_path_factory.mktemp("out"), io.StringIO()
            arguments = ["--quick", "--out", str(folder)]
            if hasattr(script, "add_image_options"):
                arguments += ["--data", "digits"]
            with contextlib.redirect_stdout(printed):
                measured = script.main(arguments)
            runs[script] = measured, printed.getvalue(), folder
        return runs[script]

    return run

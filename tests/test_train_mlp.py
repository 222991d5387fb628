"""The training script learns, is reproducible, stops cleanly and resumes exactly."""

import errno
import functools
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same

import tinygrad_bn as tg
import train_mlp
from parts.train_mlp.plots import draw_training
from support.data import load
from support.networks import linears
from tinygrad_bn import nn

SCRIPT = train_mlp.__file__
SMALL = ["--data", "moons", "--layers", "8,4"]


@pytest.fixture(autouse=True)
def without_pictures_and_mnist(monkeypatch):
    """Pictures take half a second, and only two tests look at them."""
    monkeypatch.setattr(train_mlp, "draw_training", lambda *_: None)
    monkeypatch.delenv("MNIST_DIR", raising=False)


def run(folder, *options):
    """The checkpoint after a run of the script in this process."""
    train_mlp.main([*options, "--out", str(folder)])
    return tg.load(Path(folder) / "checkpoint.npz")


@functools.cache
def state_after_an_epoch():
    with tempfile.TemporaryDirectory() as folder:
        return run(folder, *SMALL, "--epochs", "1")


def assert_same_run(a, b):
    assert_same({**a, "options": None}, {**b, "options": None})


# --- It learns ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_command_of_the_readme_reads_97_percent_of_the_digits(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(train_mlp, "draw_training", draw_training)
    _, train_accuracy, test_accuracy = run(tmp_path)["history"][-1]
    assert train_accuracy > 0.999
    assert test_accuracy >= 0.97
    assert capsys.readouterr().out == (
        f"training accuracy {train_accuracy:.2%}, test accuracy {test_accuracy:.2%}\n"
        f"pictures and checkpoint: {tmp_path}\n"
    )
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "network.svg").read_text(encoding="utf-8")
    assert "BatchNorm 100" in drawing
    assert "Linear 64 → 100, bias=False" in drawing


def test_the_printed_accuracy_is_that_of_the_saved_weights(tmp_path):
    state = run(tmp_path, *SMALL, "--epochs", "3")
    options = train_mlp.parse(SMALL)
    moons = load("moons")
    model = train_mlp.network(options, moons)
    model.load_state_dict(state["model"])
    scores = model.eval()(tg.Tensor(moons.test_x)).data
    assert state["history"].shape == (3, 3)
    assert np.mean(scores.argmax(axis=1) == moons.test_y) == state["history"][-1, 2]


@pytest.mark.parametrize(
    "kind",
    [
        ["--bn", "none", "--activation", "relu", "--optimizer", "sgd"],
        ["--bn", "graph", "--activation", "sigmoid", "--optimizer", "adam"],
        ["--bn", "fused", "--activation", "tanh", "--optimizer", "sgd"],
    ],
)
def test_every_kind_of_network_learns_the_moons(tmp_path, kind):
    history = run(tmp_path, *SMALL, *kind, "--epochs", "3", "--lr", "0.1")["history"]
    assert history[-1, 2] > 0.85
    assert history[-1, 0] < 0.8 * history[0, 0]


def test_the_two_definitions_of_batch_norm_train_alike(tmp_path):
    precise = [*SMALL, "--epochs", "2", "--dtype", "float64", "--optimizer", "sgd"]
    graph = run(tmp_path / "graph", *precise, "--bn", "graph")["model"]
    fused = run(tmp_path / "fused", *precise, "--bn", "fused")["model"]
    assert graph["0.weight"].dtype == np.float64
    for name in graph:
        np.testing.assert_allclose(graph[name], fused[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("bn", "activation", "kinds"),
    [
        ("none", "tanh", [nn.Linear, nn.Tanh] * 2 + [nn.Linear]),
        ("graph", "relu", [nn.Linear, nn.BatchNorm, nn.ReLU] * 2 + [nn.Linear]),
        ("fused", "sigmoid", [nn.Linear, nn.BatchNorm, nn.Sigmoid] * 2 + [nn.Linear]),
    ],
)
def test_only_layers_that_no_batch_norm_follows_have_a_bias(bn, activation, kinds):
    options = train_mlp.parse([*SMALL, "--bn", bn, "--activation", activation])
    model = train_mlp.network(options, load("moons"))
    assert [type(module) for module in model] == kinds
    layers = linears(model)
    assert [layer.weight.shape for layer in layers] == [(2, 8), (8, 4), (4, 2)]
    biases = [layer.bias is not None for layer in layers]
    assert biases == [bn == "none", bn == "none", True]
    norms = [module for module in model if isinstance(module, nn.BatchNorm)]
    assert all(norm.fused == (bn == "fused") for norm in norms)


# 1,200 rows make 20 batches of 60 in each epoch; SGD does not count them.
@pytest.mark.parametrize(
    ("name", "lr", "steps"), [("sgd", 0.1, None), ("adam", 0.003, 40)]
)
def test_each_optimizer_has_its_own_default_learning_rate(tmp_path, name, lr, steps):
    optimizer = run(tmp_path, *SMALL, "--optimizer", name, "--epochs", "2")["optimizer"]
    assert (optimizer["lr"], optimizer.get("steps")) == (lr, steps)


# --- It is reproducible, and resumes exactly ------------------------------------------


def test_the_same_seed_gives_the_same_numbers_and_another_seed_different_ones(tmp_path):
    runs = [
        run(tmp_path / str(i), *SMALL, "--epochs", "2", "--seed", seed)
        for i, seed in enumerate(["1", "1", "2"])
    ]
    assert_same_run(runs[0], runs[1])
    assert (runs[0]["model"]["0.weight"] != runs[2]["model"]["0.weight"]).all()


def test_each_epoch_is_shuffled_differently(tmp_path, monkeypatch):
    orders = []

    def noted(x, y, batch_size, rng):
        orders.append(rng.permutation(5).tolist())
        return [(x, y)]

    monkeypatch.setattr(train_mlp, "minibatches", noted)
    run(tmp_path, *SMALL, "--epochs", "3")
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch, optimizer):
    options = [*SMALL, "--optimizer", optimizer, "--epochs", "4"]
    uninterrupted = run(tmp_path / "a", *options)
    minibatches, epochs = train_mlp.minibatches, []

    def stopping_in_the_third_epoch(*inputs):
        epochs.append(inputs)
        for i, batch in enumerate(minibatches(*inputs)):
            if len(epochs) == 3 and i == 5:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train_mlp, "minibatches", stopping_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", *options)
    assert len(tg.load(tmp_path / "b" / "checkpoint.npz")["history"]) == 2
    assert_same_run(run(tmp_path / "b", *options, "--resume"), uninterrupted)


def test_a_finished_run_continues_if_more_epochs_are_requested(tmp_path):
    run(tmp_path / "a", *SMALL, "--epochs", "1")
    longer = run(tmp_path / "a", *SMALL, "--epochs", "3", "--resume")
    assert_same_run(longer, run(tmp_path / "b", *SMALL, "--epochs", "3"))


@pytest.mark.slow
def test_ctrl_c_ends_with_a_sentence_and_the_last_finished_epoch(tmp_path):
    options = [*SMALL, "--out", str(tmp_path / "a")]
    # If tests run in the background, a child process would inherit an ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *options, "--epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    checkpoint, end = tmp_path / "a" / "checkpoint.npz", time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out == "\nStopped. --resume continues from the last finished epoch.\n"
    stopped = tg.load(checkpoint)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.npz"]
    epochs = str(len(stopped["history"]))
    assert_same_run(run(tmp_path / "b", *SMALL, "--epochs", epochs), stopped)


def test_resuming_with_other_options_is_refused(tmp_path):
    run(tmp_path, *SMALL, "--epochs", "1")
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--data", "moons", "--lr", "0.5", "--resume")
    path = tmp_path / "checkpoint.npz"
    assert caught.value.code == (
        f"train_mlp.py: error: --resume must use the options with which {path} began, "
        "{'layers': '[8, 4]', 'lr': '0.003'}, but {'layers': '[100, 100, 100]', "
        "'lr': '0.5'} was given."
    )


def test_resuming_from_nothing_or_from_a_damaged_file_says_so(tmp_path):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--resume")
    checkpoint = tmp_path / "checkpoint.npz"
    expected = f"train_mlp.py: error: load: there must be a checkpoint at {checkpoint}"
    assert caught.value.code.startswith(expected)

    checkpoint.write_text("hello")
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--resume")
    expected = f"train_mlp.py: error: load: {checkpoint} must be a whole checkpoint"
    assert caught.value.code.startswith(expected)


def test_a_new_run_keeps_the_checkpoint_of_an_earlier_one(tmp_path, capsys):
    earlier = run(tmp_path, *SMALL, "--epochs", "3")
    later = run(tmp_path, *SMALL, "--epochs", "1")
    renamed = tmp_path / "checkpoint-1.npz"
    assert (
        f"The checkpoint of an earlier run is now {renamed}.\n"
        in capsys.readouterr().out
    )
    assert_same_run(tg.load(renamed), earlier)
    assert len(later["history"]) == 1
    run(tmp_path, *SMALL, "--epochs", "1")
    assert_same_run(tg.load(tmp_path / "checkpoint-2.npz"), later)
    assert_same_run(tg.load(renamed), earlier)


def test_resuming_from_what_another_program_saved_says_so(tmp_path):
    tg.save(tmp_path / "checkpoint.npz", weights={"w": np.ones(3)})
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--resume")
    assert caught.value.code == (
        "train_mlp.py: error: --resume must find a checkpoint of train_mlp.py, but "
        f"{tmp_path / 'checkpoint.npz'} contains weights (dict). Choose another folder "
        "with --out."
    )


@pytest.mark.parametrize(
    "value",
    [
        3,
        "text",
        None,
        {},
        {"a": np.ones((2, 2))},
        np.zeros((2, 2)),
        np.array([["1"] * 3]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("entry", ["options", "history", "model", "optimizer"])
def test_resuming_from_entries_of_another_kind_is_a_one_line_error(
    tmp_path, entry, value
):
    state = state_after_an_epoch()
    tg.save(tmp_path / "checkpoint.npz", **{**state, entry: value})
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--resume")
    assert caught.value.code.startswith("train_mlp.py: error: ")
    assert "\n" not in caught.value.code
    if not isinstance(value, dict):
        kind = type(value).__name__
        assert f"{entry} ({kind})" in caught.value.code


def test_a_folder_at_the_path_of_the_checkpoint_is_a_one_line_error(tmp_path):
    folder = tmp_path / "checkpoint.npz"
    folder.mkdir()
    with pytest.raises(SystemExit, match=r"^train_mlp\.py: error: .*checkpoint\.npz"):
        run(tmp_path, *SMALL, "--resume")
    assert len(run(tmp_path, *SMALL, "--epochs", "1")["history"]) == 1
    assert (tmp_path / "checkpoint-1.npz").is_dir()


def test_a_full_disk_is_a_one_line_error(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tg, "save", full)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--epochs", "1")
    assert caught.value.code.startswith("train_mlp.py: error: ")
    assert "No space left on device" in caught.value.code


def test_a_network_that_does_not_fit_into_memory_is_refused_at_once(tmp_path):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "--data", "moons", "--layers", "1000000000")
    assert caught.value.code == (
        "train_mlp.py: error: --layers must make a network of at most 100,000,000 "
        "weights, but this one would have 4,000,000,000. Use fewer or smaller layers."
    )


def test_too_little_memory_is_a_one_line_error(tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(train_mlp, "perceptron", exhausted)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL)
    assert caught.value.code == (
        "train_mlp.py: error: too little memory. Use fewer or smaller layers."
    )


def test_a_single_training_row_is_refused_if_there_is_batch_norm(tmp_path, monkeypatch):
    moons = load("moons")
    single = moons._replace(train_x=moons.train_x[:1], train_y=moons.train_y[:1])
    monkeypatch.setattr(train_mlp, "load", lambda *_: single)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL)
    assert caught.value.code == (
        "train_mlp.py: error: moons must have at least 2 training rows for batch norm, "
        "but has 1. Add rows, or train with --bn none."
    )
    assert len(run(tmp_path, *SMALL, "--bn", "none", "--epochs", "2")["history"]) == 2


@pytest.mark.slow
def test_ctrl_c_during_the_imports_prints_one_line(tmp_path):
    # A library that never finishes its import, found before the real one.
    (tmp_path / "numpy.py").write_text(
        "print('now', flush=True)\nimport time\ntime.sleep(60)"
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *SMALL],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out == "\nStopped before training began.\n"


# --- What it prints -------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_terminal_only_the_closing_line_is_printed(tmp_path):
    command = [sys.executable, SCRIPT, *SMALL, "--epochs", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    line = r"training accuracy \d+\.\d\d%, test accuracy \d+\.\d\d%\n"
    place = f"pictures and checkpoint: {Path('out', 'train_mlp')}\n"
    assert re.fullmatch(line + re.escape(place), done.stdout)
    names = sorted(path.name for path in (tmp_path / "out" / "train_mlp").iterdir())
    assert names == ["checkpoint.npz", "network.svg", "training.png"]


def test_on_a_terminal_a_bar_shows_loss_and_accuracy(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    loss, _, accuracy = run(tmp_path, *SMALL, "--epochs", "2")["history"][-1]
    last = terminal.getvalue().split("\r")[-1]
    assert "2400/2400" in last
    assert f"accuracy={accuracy:.3g}, loss={loss:.3g}" in last


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--data", "cats", "invalid choice: 'cats'"),
        (
            "--layers",
            "8,,8",
            "must be a whole number of at least 1, but '' was received",
        ),
        (
            "--layers",
            "8,0",
            "must be a whole number of at least 1, but '0' was received",
        ),
        ("--activation", "step", "invalid choice: 'step'"),
        ("--bn", "maybe", "invalid choice: 'maybe'"),
        ("--optimizer", "rmsprop", "invalid choice: 'rmsprop'"),
        ("--lr", "fast", "invalid float value: 'fast'"),
        (
            "--batch-size",
            "1",
            "must be a whole number of at least 2, but '1' was received",
        ),
        ("--epochs", "0", "must be a whole number of at least 1, but '0' was received"),
        (
            "--epochs",
            "1.5",
            "must be a whole number of at least 1, but '1.5' was received",
        ),
        ("--seed", "-1", "must be a whole number of at least 0, but '-1' was received"),
        ("--dtype", "int8", "invalid choice: 'int8'"),
    ],
)
def test_a_nonsensical_option_is_reported_with_what_must_hold(
    capsys, option, value, what
):
    with pytest.raises(SystemExit) as caught:
        train_mlp.main([option, value])
    assert caught.value.code == 2
    assert f"error: argument {option}: {what}" in capsys.readouterr().err


@pytest.mark.parametrize("lr", ["-1", "nan", "inf"])
def test_a_nonsensical_learning_rate_is_refused(tmp_path, lr):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *SMALL, "--lr", lr)
    assert caught.value.code == (
        "train_mlp.py: error: Adam: lr must be a finite number of at least 0, but "
        f"{float(lr)} was received."
    )


@pytest.mark.parametrize("data", [["--data", "mnist"], []])
def test_a_folder_requests_mnist_and_is_named_if_mnist_is_missing(tmp_path, data):
    with pytest.raises(SystemExit) as caught:
        train_mlp.main([*data, "--mnist-dir", str(tmp_path)])
    expected = f"train_mlp.py: error: MNIST: {tmp_path} must contain train-images-idx3"
    assert caught.value.code.startswith(expected)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"train_mlp\.py: error: .*/file"):
        run(tmp_path / "file", *SMALL)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    wild = [*SMALL, "--bn", "none", "--optimizer", "sgd", "--lr", "1e30"]
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, *wild)
    assert caught.value.code == "The loss became nan in epoch 1: lower --lr."
    assert not (tmp_path / "checkpoint.npz").exists()


def test_the_help_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        train_mlp.main(["--help"])
    shown = capsys.readouterr().out
    options = re.findall(r"^  (--[a-z-]+)(?: \S+)?\s+(\S+)", shown, re.MULTILINE)
    assert [name for name, _ in options] == [
        "--data", "--mnist-dir", "--layers", "--activation", "--bn", "--optimizer",
        "--lr", "--batch-size", "--epochs", "--seed", "--dtype", "--out", "--resume",
    ]  # fmt: skip
    assert "None" not in shown
    assert "learning rate (default 0.003 for adam, 0.1 for sgd)" in shown

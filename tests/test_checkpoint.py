"""Checkpoints: what was saved comes back, whole or not at all."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same

import tinygrad_bn as tg
from tinygrad_bn import Tensor, files, nn, optim

STATE = {
    "model": {
        "0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "inside": {"running_mean": np.array([0.1, np.nan]), "updates": np.array(7)},
        "nothing": {},
        "no rows": np.zeros((0, 3)),
    },
    "columns first": np.arange(6.0).reshape(3, 2).T,
    "words": np.array(["ja", "nein"]),
    "epoch": 3,
    "lr": 0.1 + 0.2,
    "large": 2**127 + 1,
    "endless": -math.inf,
    "name": 'größer / "ß"',
    "done": True,
    "best": None,
    "file": np.array([True, False]),
}


def test_what_was_saved_comes_back_with_its_types(tmp_path):
    tg.save(tmp_path / "all.npz", **STATE)
    assert_same(tg.load(tmp_path / "all.npz"), STATE)


def test_numpy_scalars_come_back_as_python_numbers(tmp_path):
    path = tmp_path / "scalars.npz"
    tg.save(path, loss=np.float32(0.1), steps=np.int64(5), done=np.bool_(True))
    assert_same(
        tg.load(path), {"loss": float(np.float32(0.1)), "steps": 5, "done": True}
    )


def test_a_state_may_contain_something_called_path(tmp_path):
    tg.save(tmp_path / "p.npz", path="elsewhere", self=1)
    assert tg.load(tmp_path / "p.npz") == {"path": "elsewhere", "self": 1}


@pytest.mark.parametrize("name", ["a", "a.npz", "a.ckpt", "ä b.npy"])
def test_the_path_is_used_exactly_as_given(tmp_path, name):
    tg.save(str(tmp_path / name), epoch=1)
    assert os.listdir(tmp_path) == [name]
    assert tg.load(str(tmp_path / name)) == {"epoch": 1}


def test_numpy_finds_the_arrays_without_pickle(tmp_path):
    tg.save(tmp_path / "a.npz", **STATE)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert_same(file["model/0.weight"], STATE["model"]["0.weight"])
        assert_same(file["model/inside/updates"], STATE["model"]["inside"]["updates"])


def test_the_same_state_makes_the_same_bytes(tmp_path):
    for name in "ab":
        tg.save(tmp_path / name, **STATE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("optimizer", [optim.Adam, lambda p: optim.SGD(p, 0.1, 0.9)])
def test_training_resumed_from_a_checkpoint_ends_like_an_uninterrupted_run(
    tmp_path, optimizer
):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 3)).astype(np.float32), np.arange(8) % 2

    def build():
        rng = np.random.default_rng(1)
        model = nn.Sequential(
            nn.Linear(3, 4, rng=rng), nn.BatchNorm(4), nn.Linear(4, 2, rng=rng)
        )
        return model, optimizer(model.parameters())

    def train(model, optimizer):
        for _ in range(3):
            loss = nn.cross_entropy(model(Tensor(x)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model, steps = build()
    train(model, steps)
    path = tmp_path / "checkpoint.npz"
    tg.save(path, model=model.state_dict(), optimizer=steps.state_dict(), epoch=3)
    train(model, steps)

    resumed, resumed_steps = build()
    state = tg.load(path)
    resumed.load_state_dict(state["model"])
    resumed_steps.load_state_dict(state["optimizer"])
    train(resumed, resumed_steps)
    assert_same(resumed.state_dict(), model.state_dict())
    assert_same(resumed_steps.state_dict(), steps.state_dict())


# --- Saving that fails ----------------------------------------------------------------


def assert_old_checkpoint_is_whole_and_alone(path):
    assert os.listdir(path.parent) == [path.name]
    assert_same(tg.load(path), STATE)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path, monkeypatch, failing, error
):
    path = tmp_path / "a.npz"
    tg.save(path, **STATE)

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(type(error)):
            tg.save(path, epoch=4)
    assert_old_checkpoint_is_whole_and_alone(path)


def test_an_error_while_saving_after_an_interrupt_is_not_hidden(tmp_path, monkeypatch):
    def fail(*_, **options):
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            tg.save(tmp_path / "a.npz", a=np.ones(3))


def test_a_write_that_fails_between_two_arrays_leaves_the_old_checkpoint(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.npz"
    tg.save(path, **STATE)
    write, written = np.lib.format.write_array, []

    def fail_at_the_second(file, array, **options):
        if written:
            raise OSError("disk full")
        written.append(array)
        write(file, array, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array", fail_at_the_second)
        with pytest.raises(OSError, match="disk full"):
            tg.save(path, a=np.ones(3), b=np.ones(3))
    assert_old_checkpoint_is_whole_and_alone(path)


def test_the_new_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        events.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def noted_replace(source, target):
        events.append(("replace", source.stat().st_size))
        assert source.parent == target.parent
        assert_same(tg.load(source), STATE)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    tg.save(tmp_path / "a.npz", **STATE)
    size = (tmp_path / "a.npz").stat().st_size
    assert events == [("fsync", size), ("replace", size)]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Tensor([1.0]), "a Tensor: Tensor([1.], shape=(1,), dtype=float64)"),
        (Tensor([1.0, 2.0]), "a Tensor: Tensor([1., 2.], shape=(2,), dtype=float64)"),
        ([1, 2], "a list: [1, 2]"),
        ((1, 2), "a tuple: (1, 2)"),
        (1j, "a complex: 1j"),
        (np.array([None]), "a ndarray: array([None], dtype=object)"),
        (np.ma.masked_array([1], [True]), "a MaskedArray: masked_array("),
        (np.zeros(1, "V2"), "a ndarray: array([b'\\x00\\x00'], dtype='|V2')"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_name_before_anything_is_written(
    tmp_path, value, what
):
    path = tmp_path / "a.npz"
    tg.save(path, **STATE)
    with pytest.raises(TypeError) as caught:
        tg.save(path, epoch=4, model={"inside": {"x": value}})
    assert str(caught.value).startswith(
        "save: values must be dictionaries, arrays of numbers or strings, numbers, "
        f"strings, True, False or None, but 'model/inside/x' is {what}"
    )
    assert_old_checkpoint_is_whole_and_alone(path)


@pytest.mark.parametrize("key", ["a/b", "a\\b", "a\nb", "a\0b", "", ".", "..", 3])
def test_a_key_that_is_not_a_plain_name_is_refused(tmp_path, key):
    with pytest.raises(ValueError) as caught:
        tg.save(tmp_path / "a.npz", model={key: 1})
    assert str(caught.value) == (
        f"save: keys must be printable strings without slashes, but {key!r} was "
        "received in 'model'. Rename it."
    )
    assert not os.listdir(tmp_path)


def test_saving_makes_the_missing_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.npz"
    tg.save(path, **STATE)
    assert_old_checkpoint_is_whole_and_alone(path)


@pytest.mark.parametrize("folder", ["file", "file/inside"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, folder):
    (tmp_path / "file").touch()
    path = tmp_path / folder / "a.npz"
    with pytest.raises(NotADirectoryError) as caught:
        tg.save(path, epoch=1)
    assert str(caught.value) == (
        f"save: {path.parent} must be a folder, but it or a folder above it is a file. "
        "Save to another path."
    )
    assert os.listdir(tmp_path) == ["file"]


def test_a_home_that_is_not_expanded_does_not_become_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        tg.save("~/runs/a.npz", epoch=1)
    assert str(caught.value) == (
        "save: ~ must be a folder, but there is none. For your home, use "
        "os.path.expanduser(path)."
    )
    tg.save("~a.npz", epoch=1)
    assert os.listdir(tmp_path) == ["~a.npz"]


@pytest.mark.parametrize("ending", ["", "/", "/new/"])
def test_saving_to_the_path_of_a_folder_is_an_error_that_names_it(tmp_path, ending):
    folder = f"{tmp_path}{ending}"
    with pytest.raises(IsADirectoryError) as caught:
        tg.save(folder, epoch=1)
    assert str(caught.value) == (
        f"save: the path must name a file, but {folder} names a folder. Add a file "
        "name."
    )
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    link = tmp_path / "link.npz"
    link.symlink_to(pipe)
    for path in pipe, link:
        with pytest.raises(FileExistsError) as error:
            tg.save(path, a=1)
        assert str(error.value) == (
            f"save: the new file replaces the one at its path, but {pipe} is a device "
            "or a pipe. Save to another path."
        )
    assert pipe.is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe.npz", "link.npz"}


def test_the_next_save_removes_what_a_killed_one_left_behind(tmp_path):
    path = tmp_path / "a.npz"
    tg.save(path, **STATE)
    program = (
        "import os, signal, sys, tinygrad_bn as tg\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "tg.save(sys.argv[1], epoch=4)\n"
    )
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", program, path], check=False)
        assert died.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    assert_same(tg.load(path), STATE)
    tg.save(path, **STATE)
    assert_old_checkpoint_is_whole_and_alone(path)


def test_only_abandoned_files_of_the_same_checkpoint_are_removed(tmp_path):
    mine, parent = os.getpid(), os.getppid()
    abandoned = f".a.npz.{mine}-0123abcd.unfinished"
    others = {
        f".a.npz.{parent}-0123abcd.unfinished",  # a running process
        f".a.npz.b.{mine}-0123abcd.unfinished",  # another checkpoint
        f".aXnpz.{mine}-0123abcd.unfinished",
        f".a.npz.{mine}-notes.unfinished",
        f".a.npz.{mine}-0123abcd.unfinished.txt",
    }
    for name in {abandoned, *others}:
        (tmp_path / name).touch()
    tg.save(tmp_path / "a.npz", epoch=1)
    assert {*os.listdir(tmp_path)} == {"a.npz", *others}


def test_long_names_with_one_beginning_are_different_checkpoints(tmp_path):
    first, second = (tmp_path / f"{'x' * 230}{i}.npz" for i in "12")
    name = f".{files._short_name(first)}.{os.getpid()}-0123abcd.unfinished"
    (tmp_path / name).touch()
    tg.save(second, epoch=1)
    assert {*os.listdir(tmp_path)} == {name, second.name}
    tg.save(first, epoch=1)
    assert {*os.listdir(tmp_path)} == {first.name, second.name}


def test_files_of_other_users_processes_are_left_alone(tmp_path, monkeypatch):
    def refuse(process, number):
        assert (process, number) == (4321, 0)
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    name = ".a.npz.4321-0123abcd.unfinished"
    (tmp_path / name).touch()
    tg.save(tmp_path / "a.npz", epoch=1)
    assert {*os.listdir(tmp_path)} == {"a.npz", name}


def test_on_windows_no_process_is_asked_whether_it_is_running(monkeypatch):
    # There, os.kill(process, 0) would interrupt it.
    monkeypatch.setattr(os, "kill", None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        assert files._is_another(os.getpid() + 1)
        assert not files._is_another(os.getpid())


def test_two_simultaneous_saves_to_one_path_do_not_interfere(tmp_path, monkeypatch):
    path, fsync = tmp_path / "a.npz", os.fsync

    def save_another_first(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        tg.save(path, epoch=1)
        assert tg.load(path) == {"epoch": 1}

    monkeypatch.setattr(os, "fsync", save_another_first)
    tg.save(path, **STATE)
    assert_old_checkpoint_is_whole_and_alone(path)


def test_a_symbolic_link_is_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "link.npz"
    link.symlink_to(elsewhere / "a.npz")
    for epoch in 1, 2:
        tg.save(link, epoch=epoch)
        assert link.is_symlink()
        assert os.listdir(elsewhere) == ["a.npz"]
        assert tg.load(elsewhere / "a.npz") == tg.load(link) == {"epoch": epoch}


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_checkpoint_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.npz"
    tg.save(path, epoch=1)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(mode)
    tg.save(path, epoch=2)
    assert path.stat().st_mode & 0o777 == mode


def test_a_private_checkpoint_is_never_readable_by_others(tmp_path, monkeypatch):
    path, modes = tmp_path / "a.npz", []
    tg.save(path, epoch=1)
    path.chmod(0o600)
    write_array = np.lib.format.write_array

    def note_modes(file, array, **options):
        modes.extend(each.stat().st_mode & 0o777 for each in tmp_path.iterdir())
        write_array(file, array, **options)

    monkeypatch.setattr(np.lib.format, "write_array", note_modes)
    tg.save(path, weights=np.ones(3))
    assert modes == [0o600, 0o600]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_no_file_stays_open(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    before = len(os.listdir("/proc/self/fd"))
    tg.save(tmp_path / "a.npz", **STATE)
    tg.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(ValueError):
        tg.load(tmp_path / "b.npz")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        tg.save(tmp_path / "c.npz", **STATE)
    assert len(os.listdir("/proc/self/fd")) == before


# --- Loading that fails ---------------------------------------------------------------


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        tg.load(tmp_path / "a")
    assert str(caught.value) == (
        f"load: there must be a checkpoint at {tmp_path / 'a'}, but there is no such "
        "file. Check the path; no extension is added to it."
    )


def foreign_npz(path):
    with open(path, "wb") as file:
        np.savez(file, weights=np.ones(3))


def forged_npz(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinygrad_bn.json", '{"plain": {}, "arrays": ["a"]}')
        with archive.open("a.npy", "w") as member:
            np.lib.format.write_array(member, np.array([print]))


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda path: path.write_bytes(b""), "File is not a zip file"),
        (lambda path: path.write_text("hello"), "File is not a zip file"),
        (lambda path: path.write_bytes(pickle.dumps(3)), "File is not a zip file"),
        (foreign_npz, "it was written by something else"),
        (forged_npz, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_a_file_that_save_did_not_write_is_refused(tmp_path, write, what):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(ValueError) as caught:
        tg.load(path)
    assert str(caught.value) == (
        f"load: {path} must be a whole checkpoint, written by tg.save, but reading it "
        f"failed: {what}. Load a different one."
    )


NPY = (
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
)


def npy(shape):
    return (NPY % shape).ljust(127) + b"\n" + bytes(8)


def forged(path, contents, arrays=(), compression=zipfile.ZIP_STORED):
    """A file in the format of ``save`` with these contents and members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("tinygrad_bn.json", json.dumps(contents))
        for place, data in arrays:
            archive.writestr(f"{place}.npy", data)


ONE = {"plain": {}, "arrays": ["a"]}


def test_a_file_without_a_format_number_can_be_read(tmp_path):
    forged(tmp_path / "a.npz", ONE, [("a", npy(b"(1,)"))])
    assert_same(tg.load(tmp_path / "a.npz"), {"a": np.zeros(1)})
    tg.save(tmp_path / "b.npz", epoch=1)
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        contents = json.loads(archive.read("tinygrad_bn.json"))
    assert contents == {"format": 1, "plain": {"epoch": 1}, "arrays": []}


@pytest.mark.parametrize(
    ("contents", "arrays", "what"),
    [
        ({"format": 2, **ONE}, [], "its format is 2, but this version of tinygrad_bn"),
        ({"format": 0, **ONE}, [], "its format is 0, but this version of tinygrad_bn"),
        (ONE, [("a", npy(b"(10000000000000,)"))], "'a.npy' has another size than its"),
        (ONE, [("a", npy(b"(2,)"))], "'a.npy' has another size than its array"),
        (ONE, [("a", npy(b"(0,)"))], "'a.npy' has another size than its array"),
        (ONE, [("a", npy(b"(-1,)"))], "'a.npy' has another size than its array"),
        (ONE, [("a", npy(b"(1,)").replace(b"\1", b"\2", 1))], "an array has the unkn"),
        (ONE, [("a", npy(b"(1,)").replace(b"\1", b"\0", 1))], "an array has the unkn"),
        (ONE, [("a", b"hello")], "EOF: reading magic string"),
        (ONE, [], '"There is no item named'),
        ([], [], "'list' object has no attribute 'get'"),
        ({"arrays": []}, [], "'plain'"),
        ({"plain": {}}, [], "'arrays'"),
        ({"plain": {"a": [1]}, "arrays": []}, [], "save: values must be dictionaries"),
        ({"plain": {"../a": 1}, "arrays": []}, [], "save: keys must be printable str"),
        ({"plain": {"a": 1, "a/b": 2}, "arrays": []}, [], "'int' object does not"),
        (
            {"plain": {"a/b": 1, "a": 2}, "arrays": []},
            [],
            "its places contradict each other",
        ),
        (
            {"plain": {"a/b": 1, "a": {}}, "arrays": []},
            [],
            "its places contradict each other",
        ),
        (
            {"plain": {"a": {"b": 1}}, "arrays": []},
            [],
            "its places contradict each other",
        ),
    ],
)
def test_a_forged_file_is_refused_by_name(tmp_path, contents, arrays, what):
    path = tmp_path / "a.npz"
    forged(path, contents, arrays)
    with pytest.raises(ValueError) as caught:
        tg.load(path)
    expected = f"load: {path} must be a whole checkpoint, written by tg.save, but readi"
    assert str(caught.value).startswith(expected)
    assert f"failed: {what}" in str(caught.value)


def test_a_compressed_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    forged(path, ONE, [("a", npy(b"(1,)"))], zipfile.ZIP_DEFLATED)
    monkeypatch.delattr(zipfile.ZipFile, "read")
    with pytest.raises(ValueError, match="reading it failed: it is compressed"):
        tg.load(path)


def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_read(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.npz"
    forged(path, ONE, [("a", npy(b"(1,)"))])
    whole = path.read_bytes()
    size = len(npy(b"(1,)")).to_bytes(4, "little")
    assert whole.count(size * 2) == 2
    path.write_bytes(whole.replace(size * 2, (2**31).to_bytes(4, "little") * 2))
    monkeypatch.delattr(zipfile.ZipFile, "read")
    with pytest.raises(ValueError, match="it claims to contain more than its size"):
        tg.load(path)


def test_running_out_of_memory_is_not_reported_as_damage(tmp_path, monkeypatch):
    tg.save(tmp_path / "a.npz", **STATE)

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", fail)
    with pytest.raises(MemoryError):
        tg.load(tmp_path / "a.npz")


def test_a_truncated_checkpoint_is_never_accepted(tmp_path):
    path = tmp_path / "a.npz"
    tg.save(path, **STATE)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.npz must be a whole checkpoint"):
            tg.load(path)


def test_a_damaged_byte_never_changes_the_loaded_values_silently(tmp_path):
    path = tmp_path / "a.npz"
    tg.save(path, weights=np.arange(20.0), epoch=3)
    whole, refused = path.read_bytes(), 0
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            state = tg.load(path)
        except ValueError as error:
            assert str(error).startswith(f"load: {path} must be a whole checkpoint")
            refused += 1
        else:
            assert_same(state, {"epoch": 3, "weights": np.arange(20.0)})
    assert refused > len(whole) / 2

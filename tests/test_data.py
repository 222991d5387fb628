"""The data sets of the examples, and the messages about bad files."""

import gzip
import os
from urllib.error import URLError

import numpy as np
import pytest
from matplotlib.figure import Figure

from parts.train_mlp import plots
from support import data

# --- Built in -------------------------------------------------------------------------


def test_every_digit_is_used_either_for_training_or_for_testing():
    from sklearn.datasets import load_digits  # It takes a second.

    digits = data.digits()
    x, y = load_digits(return_X_y=True)
    ours = np.r_[
        np.c_[digits.train_x, digits.train_y], np.c_[digits.test_x, digits.test_y]
    ]
    theirs = np.c_[x, y]
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))
    assert (len(digits.train_y), len(digits.test_y)) == (1437, 360)
    assert (digits.num_classes, digits.image_shape) == (10, (8, 8))


def test_a_fifth_of_each_digit_is_used_for_testing():
    digits = data.digits()
    tested = np.bincount(digits.test_y)
    fifth = (np.bincount(digits.train_y) + tested) / 5
    assert np.abs(tested - fifth).max() < 1


@pytest.mark.parametrize("name", ["digits", "moons", "spirals"])
def test_a_data_set_is_the_same_each_time(name):
    for a, b in zip(data.load(name), data.load(name)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "classes"), [("moons", 2), ("spirals", 3)])
def test_points_in_the_plane_are_not_separable_by_a_straight_line(name, classes):
    points = data.load(name, np.float64)
    assert points.num_classes == classes
    assert points.image_shape is None
    assert set(np.bincount(points.train_y)) == {1200 // classes}

    plane = np.c_[points.train_x, np.ones(1200)]
    one_hot = np.eye(classes)[points.train_y]
    coefficients = np.linalg.lstsq(plane, one_hot)[0]
    by_lines = (np.c_[points.test_x, np.ones(600)] @ coefficients).argmax(axis=1)
    assert np.mean(by_lines == points.test_y) < 0.9

    distances = np.linalg.norm(points.test_x[:, None] - points.train_x, axis=2)
    by_neighbor = points.train_y[distances.argmin(axis=1)]
    assert np.mean(by_neighbor == points.test_y) > 0.97


@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_standardized_data_have_mean_0_and_variance_1_over_the_training_rows(dtype):
    raw, x = data.digits(), data.load("digits", dtype)
    assert x.train_x.dtype == x.test_x.dtype == dtype
    assert abs(x.train_x.mean(dtype=float)) < 1e-6
    assert abs(x.train_x.var(dtype=float) - 1) < 1e-5
    # Test rows must be scaled like the training rows, not by their own statistics.
    mean, std = raw.train_x.mean(), raw.train_x.std()
    np.testing.assert_allclose(x.test_x * std + mean, raw.test_x, atol=1e-5)
    assert abs(x.test_x.mean(dtype=float)) > 1e-4


# --- Minibatches ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [
        (120, 60, [60, 60]),
        (122, 60, [60, 60, 2]),
        (5, 60, [5]),
        (121, 60, [60, 61]),
        (61, 60, [61]),
        (5, 2, [2, 3]),
        (1, 60, [1]),
    ],
)
def test_a_single_remaining_row_joins_the_previous_batch(rows, batch_size, sizes):
    x, y = np.arange(rows) + 0.5, np.arange(rows)
    batches = [*data.minibatches(x, y, batch_size, np.random.default_rng(0))]
    assert [len(labels) for _, labels in batches] == sizes
    assert sorted(np.concatenate([labels for _, labels in batches])) == [*range(rows)]
    for features, labels in batches:
        np.testing.assert_array_equal(features, labels + 0.5)


def test_the_order_depends_only_on_the_generator():
    x = y = np.arange(100)

    def first(seed):
        return next(data.minibatches(x, y, 50, np.random.default_rng(seed)))[1].tolist()

    assert first(1) == first(1) != first(2)
    assert first(1) != sorted(first(1))


# --- MNIST ----------------------------------------------------------------------------

PARTS = {
    "train-images-idx3-ubyte": (3, 28, 28),
    "train-labels-idx1-ubyte": (3,),
    "t10k-images-idx3-ubyte": (2, 28, 28),
    "t10k-labels-idx1-ubyte": (2,),
}


def array_of(shape):
    return np.arange(np.prod(shape)).reshape(shape) % (10 if len(shape) == 1 else 251)


def idx(array, magic=None):
    header = [0x0800 + array.ndim if magic is None else magic, *array.shape]
    return np.array(header, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the four files of a very small MNIST."""
    monkeypatch.delenv("MNIST_DIR", raising=False)
    for name, shape in PARTS.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array_of(shape))))
    return tmp_path


def assert_small_mnist(mnist):
    np.testing.assert_array_equal(mnist.train_x, array_of((3, 784)))
    np.testing.assert_array_equal(mnist.test_x, array_of((2, 784)))
    assert mnist.train_y.tolist() == [0, 1, 2]
    assert mnist.test_y.tolist() == [0, 1]
    assert (mnist.num_classes, mnist.image_shape) == (10, (28, 28))


def test_mnist_is_read_from_the_folder_that_is_named(folder, monkeypatch):
    assert_small_mnist(data.mnist(str(folder)))
    monkeypatch.setenv("MNIST_DIR", str(folder))
    assert_small_mnist(data.mnist())
    monkeypatch.setenv("MNIST_DIR", "nowhere")
    assert_small_mnist(data.mnist(folder))
    assert data.load("mnist", mnist_dir=folder).train_x.dtype == np.float32


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_unpacked_files_are_read_whether_or_not_they_were_renamed(folder, suffix):
    for name in PARTS:
        packed = folder / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes())
        packed.unlink()
        (folder / (name + suffix)).write_bytes(content)
    assert_small_mnist(data.mnist(folder))


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SMALL = idx(array_of((3, 28, 28)))
SIZE = "must have 2368 bytes for an array of [3, 28, 28], but has"
HEADER = "must have 16 bytes for an array of [3, 28, 0], but has"
MAGIC_3 = "must begin with the magic number 2051 of bytes along 3 axes, but begins with"
MAGIC_1 = "must begin with the magic number 2049 of bytes along 1 axes, but begins with"
PIXELS = "must contain images of 28x28 pixels, but contains an array of"
RANGE = "must contain labels from 0 to 9, but contains"
AGAIN, OTHER = "Get it again.", "Get the files of MNIST."


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (IMAGES, SMALL[:-1], f"{SIZE} 2367. {AGAIN}"),
        (IMAGES, SMALL + b"0", f"{SIZE} 2369. {AGAIN}"),
        (IMAGES, SMALL[:12], f"{HEADER} 12. {AGAIN}"),
        (IMAGES, idx(array_of((3,))), f"{MAGIC_3} 2049. {OTHER}"),
        (LABELS, SMALL, f"{MAGIC_1} 2051. {OTHER}"),
        (LABELS, idx(array_of((2,)), magic=0x0D01), f"{MAGIC_1} 3329. {OTHER}"),
        (LABELS, b"", f"{MAGIC_1} 0. {OTHER}"),
        (LABELS, idx(np.array([3, 10])), f"{RANGE} 10. {OTHER}"),
        (IMAGES, idx(array_of((3, 8, 8))), f"{PIXELS} (3, 8, 8). {OTHER}"),
        (IMAGES, idx(np.zeros((0, 28, 28))), f"{PIXELS} (0, 28, 28). {OTHER}"),
    ],
)
def test_a_wrong_file_is_named_and_the_mistake_explained(folder, name, content, what):
    path = folder / f"{name}.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        data.mnist(folder)
    assert str(caught.value) == f"MNIST: {path} {what}"


def test_a_missing_file_is_named(folder):
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        data.mnist(folder)
    assert str(caught.value) == (
        f"MNIST: {folder} must contain {LABELS}.gz or {LABELS}, but contains neither. "
        "Name the folder of the four IDX files: --mnist-dir or MNIST_DIR."
    )


def test_labels_that_do_not_belong_to_the_images_are_named_with_them(folder):
    path = folder / f"{LABELS}.gz"
    path.write_bytes(gzip.compress(idx(array_of((5,)))))
    with pytest.raises(ValueError) as caught:
        data.mnist(folder)
    assert str(caught.value) == (
        f"MNIST: {path} must contain a label for each image, but contains 5 for 2 in "
        f"{folder / 't10k-images-idx3-ubyte.gz'}. Get both again."
    )


def test_a_truncated_packed_file_is_named(folder):
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError) as caught:
        data.mnist(folder)
    assert str(caught.value) == (
        f"MNIST: {path} must be a whole gzip file, but unpacking it failed: Compressed "
        "file ended before the end-of-stream marker was reached. Get it again."
    )


def test_damage_inside_a_packed_file_is_named(folder):
    path = folder / f"{IMAGES}.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-6] + b"\0\0" + content[-4:])
    with pytest.raises(ValueError, match="unpacking it failed: CRC check failed"):
        data.mnist(folder)


def test_mnist_is_fetched_if_no_folder_is_named(monkeypatch):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    labels = np.arange(70000) % 10

    def fetch(name, **options):
        assert name == "mnist_784"
        assert options["as_frame"] is False
        assert options["return_X_y"] is True
        return np.broadcast_to(labels[:, None], (70000, 784)), labels.astype(str)

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    mnist = data.mnist()
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((60000, 784), (10000, 784))
    np.testing.assert_array_equal(mnist.train_y, labels[:60000])
    np.testing.assert_array_equal(mnist.test_y, labels[60000:])
    np.testing.assert_array_equal(mnist.test_x[:, 5], labels[60000:])


def test_if_mnist_cannot_be_fetched_the_error_says_what_else_to_do(monkeypatch):
    monkeypatch.delenv("MNIST_DIR", raising=False)

    def fetch(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(OSError) as caught:
        data.mnist()
    assert str(caught.value) == (
        "MNIST: it must be fetched from OpenML once, but that failed: <urlopen error "
        "no route to host>. Name the folder of its four IDX files instead: --mnist-dir "
        "or MNIST_DIR."
    )


def test_the_real_mnist_is_read_correctly():
    if not os.environ.get("MNIST_DIR"):
        pytest.skip("MNIST_DIR is not set")
    mnist = data.mnist()
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((60000, 784), (10000, 784))
    assert mnist.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(mnist.test_x.mean() / 255 - 0.1325) < 5e-5


# --- Pictures -------------------------------------------------------------------------


def test_each_tile_shows_the_weights_of_one_unit():
    weights = np.random.default_rng(0).standard_normal((6, 5))
    axes = Figure().subplots()
    plots.draw_tiles(axes, weights.T.reshape(5, 2, 3))
    sheet = axes.images[0].get_array().filled(np.nan)
    assert sheet.shape == (9, 12)
    for i in range(5):
        row, column = 3 * (i // 3), 4 * (i % 3)
        tile = sheet[row : row + 2, column : column + 3]
        np.testing.assert_array_equal(tile, weights[:, i].reshape(2, 3))
    assert np.isfinite(sheet).sum() == weights.size
    # Zero must be the neutral color in the middle.
    low, high = axes.images[0].get_clim()
    assert low == -high == -np.quantile(np.abs(weights), 0.995)


def test_each_place_shows_the_class_that_is_predicted_there():
    points = data.load("moons")
    axes = Figure().subplots()
    plots.draw_regions(axes, points, lambda x: (x[:, 0] > 3 * x[:, 1]).astype(int))
    mesh, dots = axes.collections
    classes = mesh.get_array()
    corners = mesh.get_coordinates()
    middle = (corners[1:, 1:] + corners[:-1, :-1]) / 2
    expected = middle[..., 0] > 3 * middle[..., 1]
    np.testing.assert_array_equal(np.reshape(classes, expected.shape), expected)
    np.testing.assert_array_equal(dots.get_offsets(), points.test_x)
    np.testing.assert_array_equal(dots.get_array(), points.test_y)

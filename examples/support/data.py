"""The data sets of the examples, and minibatches.

    digits           1,797 handwritten digits of 8x8 pixels; part of scikit-learn
    mnist            70,000 handwritten digits of 28x28 pixels; local files or OpenML
    moons, spirals   points in the plane that no straight line separates
    IDX              the file format of MNIST: a magic number, the sizes, the bytes

The data, and their split into training and test sets, do not depend on the seed of an
example.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DataSet(NamedTuple):
    """Rows of features and the index of each row's class, for training and testing.

    Shapes: train_x and test_x (N, features); train_y and test_y (N,), integers in
    [0, num_classes). If ``image_shape`` is given, each row is an image.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int
    image_shape: tuple[int, int] | None = None


def load(name: str, dtype=np.float32, mnist_dir=None) -> DataSet:
    """The data set called ``name``, one of ``NAMES``, standardized.

    ``mnist_dir`` is the folder that contains the files of MNIST; see ``mnist``.
    """
    data = mnist(mnist_dir) if name == "mnist" else _BUILT_IN[name]()
    return standardized(data, dtype)


def standardized(data: DataSet, dtype=np.float32) -> DataSet:
    """Shift and scale the data so that the training features have mean 0, variance 1.

    One mean and one standard deviation serve all features, so that images keep their
    contrasts and a pixel that is always blank causes no division by zero.
    """
    train_x, test_x = data.train_x.astype(dtype), data.test_x.astype(dtype)
    mean, std = train_x.mean(), train_x.std()
    return data._replace(train_x=(train_x - mean) / std, test_x=(test_x - mean) / std)


def minibatches(
    x: np.ndarray, y: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each row once, in random order, ``batch_size`` rows at a time.

    The last batch may be smaller. A single remaining row, which batch norm could not
    normalize, joins the batch before it.
    """
    order = rng.permutation(len(x))
    for rows in np.split(order, range(batch_size, len(x) - 1, batch_size)):
        yield x[rows], y[rows]


# --- Built in -------------------------------------------------------------------------


def digits() -> DataSet:
    """Scikit-learn's digits, a fifth of each class for testing; pixels from 0 to 16."""
    # Importing scikit-learn takes a second, which the other data sets need not spend.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=0
    )
    return DataSet("digits", train_x, train_y, test_x, test_y, 10, (8, 8))


def moons() -> DataSet:
    """Two interleaved half circles."""

    def points(n, rng):
        y = np.arange(n) % 2
        angle = math.pi * rng.random(n)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x[y == 1] = [1, 0.5] - x[y == 1]
        return x + rng.normal(0, 0.15, x.shape), y

    return _in_the_plane("moons", points, num_classes=2)


def spirals() -> DataSet:
    """Three intertwined arms."""

    def points(n, rng):
        y = np.arange(n) % 3
        radius = rng.random(n)
        angle = 2 * math.pi * y / 3 + 5 * radius + rng.normal(0, 0.15, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y

    return _in_the_plane("spirals", points, num_classes=3)


def _in_the_plane(name, points, num_classes) -> DataSet:
    rng = np.random.default_rng(0)
    return DataSet(name, *points(1200, rng), *points(600, rng), num_classes)


_BUILT_IN = {"digits": digits, "moons": moons, "spirals": spirals}
NAMES = (*_BUILT_IN, "mnist")

# --- MNIST ----------------------------------------------------------------------------


def mnist(folder=None) -> DataSet:
    """MNIST, 60,000 images for training and 10,000 for testing; pixels from 0 to 255.

    The four IDX files, gzipped or not, are read from ``folder``, or from the folder
    that the environment variable MNIST_DIR names. Without either, scikit-learn fetches
    MNIST from OpenML and caches it.

    Raises: ``FileNotFoundError`` for a missing file, ``ValueError`` for a truncated or
    wrong file, ``OSError`` if OpenML cannot be reached.

    Source: LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86(11), 1998; the IDX format as
    described on the web page of the MNIST database.
    """
    folder = folder or os.environ.get("MNIST_DIR")
    if not folder:
        return _from_openml()
    train_x, train_y = _images_and_labels(Path(folder), "train")
    test_x, test_y = _images_and_labels(Path(folder), "t10k")
    return DataSet("mnist", train_x, train_y, test_x, test_y, 10, (28, 28))


def _from_openml() -> DataSet:
    from sklearn.datasets import fetch_openml

    try:
        # The faster parser would need pandas.
        x, y = fetch_openml(
            "mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff"
        )
    except OSError as error:
        raise OSError(
            f"MNIST: it must be fetched from OpenML once, but that failed: {error}. "
            "Name the folder of its four IDX files instead: --mnist-dir or MNIST_DIR."
        ) from error
    x, y = x.astype(np.uint8), y.astype(int)
    return DataSet("mnist", x[:60000], y[:60000], x[60000:], y[60000:], 10, (28, 28))


def _images_and_labels(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images_path, images = _read_idx(folder, f"{part}-images-idx3-ubyte", axes=3)
    labels_path, labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", axes=1)
    if not len(images) or images.shape[1:] != (28, 28):
        raise ValueError(
            f"MNIST: {images_path} must contain images of 28x28 pixels, but contains "
            f"an array of {images.shape}. Get the files of MNIST."
        )
    if len(labels) != len(images):
        raise ValueError(
            f"MNIST: {labels_path} must contain a label for each image, but contains "
            f"{len(labels)} for {len(images)} in {images_path}. Get both again."
        )
    if labels.max() > 9:
        raise ValueError(
            f"MNIST: {labels_path} must contain labels from 0 to 9, but contains "
            f"{labels.max()}. Get the files of MNIST."
        )
    return images.reshape(len(images), 28 * 28), labels.astype(int)


def _read_idx(folder: Path, name: str, axes: int) -> tuple[Path, np.ndarray]:
    """The path of an IDX file, gzipped or not, and the array of bytes in it."""
    path = folder / f"{name}.gz"
    path = path if path.exists() else folder / name
    if not path.exists():
        raise FileNotFoundError(
            f"MNIST: {folder} must contain {name}.gz or {name}, but contains neither. "
            "Name the folder of the four IDX files: --mnist-dir or MNIST_DIR."
        )
    content = path.read_bytes()
    # The name does not decide: some programs unpack a file without renaming it.
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"MNIST: {path} must be a whole gzip file, but unpacking it failed: "
                f"{error}. Get it again."
            ) from error
    words = [content[i : i + 4] for i in range(0, 4 + 4 * axes, 4)]
    magic, *shape = (int.from_bytes(word, "big") for word in words)
    if magic != 0x0800 + axes:
        raise ValueError(
            f"MNIST: {path} must begin with the magic number {0x0800 + axes} of bytes "
            f"along {axes} axes, but begins with {magic}. Get the files of MNIST."
        )
    size = 4 * len(words) + math.prod(shape)
    if len(content) != size:
        raise ValueError(
            f"MNIST: {path} must have {size} bytes for an array of {shape}, but has "
            f"{len(content)}. Get it again."
        )
    return path, np.frombuffer(content, np.uint8, offset=4 * len(words)).reshape(shape)

"""The pictures of train_mlp.py: curves, what was learned, and the network."""

import copy
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import tinygrad_bn as tg
from support.data import DataSet
from support.networks import predict
from support.plotting import use_theme
from tinygrad_bn import Tensor, nn


def draw_training(folder, data: DataSet, history, model) -> None:
    """Save ``training.png``, the course of a training, and ``network.svg``.

    ``history`` has a row of loss, training accuracy and test accuracy for each epoch.
    For images, the picture shows the weights of the linear layer ``model[0]``; for
    points in the plane, it shows the predicted class of each point.
    """
    use_theme("light")
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplot_mosaic([["loss", "learned"], ["accuracy", "learned"]])
    epochs = np.arange(1, len(history) + 1)
    loss, train_accuracy, test_accuracy = np.transpose(history)
    axes["loss"].semilogy(epochs, loss, marker="o", label="training")
    axes["accuracy"].plot(epochs, train_accuracy, marker="o", label="training")
    axes["accuracy"].plot(epochs, test_accuracy, marker="s", label="test")
    for name in ("loss", "accuracy"):
        axes[name].set(title=name.capitalize(), xlabel="epoch")
        axes[name].xaxis.get_major_locator().set_params(integer=True)
        axes[name].legend()
    if data.image_shape:
        weights = model[0].weight.data[:, :100]
        draw_tiles(axes["learned"], weights.T.reshape(-1, *data.image_shape))
    else:
        draw_regions(axes["learned"], data, lambda x: predict(model, x))
    figure.savefig(Path(folder) / "training.png", dpi=120)
    draw_network(Path(folder), data, model)


def draw_network(folder: Path, data: DataSet, model) -> None:
    # Work on a copy: a batch in training mode changes the running statistics.
    twin, batch = copy.deepcopy(model).train(), slice(0, 64)
    rows = Tensor(data.train_x[batch], name=data.name)
    loss = nn.cross_entropy(twin(rows), data.train_y[batch]).named("loss")
    title = "The trained network\nbars: norm of ∂loss/∂parameter on one batch"
    drawing = tg.draw(loss, direction="TB", title=title)
    try:
        drawing.save(folder / "network.svg")
    except tg.NoRenderer as error:
        print(f"network.dot, not network.svg: {error}")
        drawing.save(folder / "network.dot")


def draw_tiles(axes, tiles: np.ndarray) -> None:
    columns = math.ceil(math.sqrt(len(tiles)))
    blank = columns**2 - len(tiles)
    tiles = np.pad(tiles, ((0, blank), (0, 1), (0, 1)), constant_values=np.nan)
    rows = tiles.reshape(columns, columns, *tiles.shape[1:])
    sheet = np.block([list(row) for row in rows])
    # Without this limit, a few large weights would make all others look pale.
    limit = np.nanquantile(np.abs(sheet), 0.995)
    image = axes.imshow(sheet, cmap="PRGn", vmin=-limit, vmax=limit)
    axes.figure.colorbar(image, ax=axes, label="weight", extend="both", shrink=0.85)
    axes.set_title("First layer: each tile shows the weights of one unit")
    axes.set_axis_off()


def draw_regions(axes, data: DataSet, predict) -> None:
    line = np.linspace(1.1 * data.test_x.min(), 1.1 * data.test_x.max(), 300)
    plane = np.stack(np.meshgrid(line, line), axis=-1).astype(data.test_x.dtype)
    classes = predict(plane.reshape(-1, 2)).reshape(plane.shape[:2])
    colors = {"cmap": "PRGn", "vmin": 0, "vmax": data.num_classes - 1}
    axes.pcolormesh(line, line, classes, alpha=0.4, **colors)
    x1, x2 = data.test_x.T
    axes.scatter(x1, x2, s=14, c=data.test_y, edgecolors="black", lw=0.5, **colors)
    axes.set(xlabel="first feature", ylabel="second feature", aspect="equal")
    axes.set_title("Predicted class of each point, and the test data")

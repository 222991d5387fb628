"""Train a multilayer perceptron with batch norm on handwritten digits.

It takes a few seconds, or less than a minute on MNIST. Pictures and a checkpoint are
saved in out/train_mlp/. After Ctrl-C, the checkpoint holds the last finished epoch, and
--resume continues from it as if training had never stopped. Without --resume, a
checkpoint that is already there is renamed.
"""

if __name__ == "__main__":
    # The imports below take a second, in which Ctrl-C needs no traceback.
    from parts.train_mlp.interrupts import end_with

    end_with("Stopped before training began.")

import argparse
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import tinygrad_bn as tg
from parts.train_mlp.plots import draw_training
from support.command_line import add_image_options, data_name, whole_number
from support.data import NAMES, load, minibatches
from support.networks import batch_norm_and, perceptron, predict
from tinygrad_bn import Tensor, nn, optim

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
# With gradients and Adam's averages, these take about 2 GB.
MOST_WEIGHTS = 10**8
OPTIMIZERS = {"adam": (optim.Adam, 0.003), "sgd": (optim.SGD, 0.1)}


def network(options, data):
    """Hidden layers of linear, batch norm and activation, then a linear layer."""
    sizes = (data.train_x.shape[1], *options.layers, data.num_classes)
    if (weights := sum(map(math.prod, pairwise(sizes)))) > MOST_WEIGHTS:
        raise ValueError(
            f"--layers must make a network of at most {MOST_WEIGHTS:,} weights, but "
            f"this one would have {weights:,}. Use fewer or smaller layers."
        )
    rng = np.random.default_rng(options.seed)
    # Batch norm subtracts the mean, and any bias with it; beta takes the bias's place.
    bias = options.bn == "none"
    settings = {"fused": options.bn == "fused", "dtype": options.dtype}
    between = batch_norm_and(ACTIVATIONS[options.activation], not bias, **settings)
    return perceptron(sizes, between, rng, bias=bias, dtype=options.dtype)


def train(options, data, model, optimizer, history):
    """Train until the history has a row of loss and accuracies for every epoch."""
    rows, batch_size = len(data.train_y), options.batch_size
    extent = {"initial": len(history) * rows, "total": options.epochs * rows}
    # On matrices this small, a second BLAS thread only waits.
    with threadpool_limits(1), tqdm(**extent, unit=" rows", disable=None) as bar:
        for epoch in range(len(history) + 1, options.epochs + 1):
            # Each epoch has its own generator, so that a resumed run shuffles alike.
            rng = np.random.default_rng([options.seed, epoch])
            loss_sum = 0.0
            for x, y in minibatches(data.train_x, data.train_y, batch_size, rng):
                loss = nn.cross_entropy(model(Tensor(x)), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(y)
                bar.update(len(y))
            if not np.isfinite(loss_sum):
                sys.exit(f"The loss became {loss_sum} in epoch {epoch}: lower --lr.")
            train_accuracy = np.mean(predict(model, data.train_x) == data.train_y)
            test_accuracy = np.mean(predict(model, data.test_x) == data.test_y)
            history.append([loss_sum / rows, train_accuracy, test_accuracy])
            bar.set_postfix(loss=loss_sum / rows, accuracy=test_accuracy)
            tg.save(
                options.out / "checkpoint.npz",
                options=options.decisive,
                history=np.array(history),
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
            )


def resume(options, model, optimizer):
    """Load the checkpoint into the model and the optimizer; return its history."""
    state = tg.load(path := options.out / "checkpoint.npz")
    match state:
        case {
            "options": dict(then),
            "history": np.ndarray(shape=(_, 3)) as history,
            "model": dict(weights),
            "optimizer": dict(averages),
        } if history.dtype == float and {*map(type, then.values())} == {str}:
            pass
        case _:
            kinds = [f"{k} ({type(v).__name__})" for k, v in sorted(state.items())]
            raise ValueError(
                f"--resume must find a checkpoint of train_mlp.py, but {path} contains "
                f"{', '.join(kinds)}. Choose another folder with --out."
            )
    if then != options.decisive:
        began = dict(sorted(then.items() - options.decisive.items()))
        given = dict(sorted(options.decisive.items() - then.items()))
        raise ValueError(
            f"--resume must use the options with which {path} began, {began}, but "
            f"{given} was given."
        )
    model.load_state_dict(weights)
    optimizer.load_state_dict(averages)
    return history.tolist()


def keep_checkpoint(folder):
    """Rename a checkpoint that is already there, so that nothing replaces it."""
    path = folder / "checkpoint.npz"
    if not path.exists():
        return
    number = 1
    while (renamed := folder / f"checkpoint-{number}.npz").exists():
        number += 1
    path.rename(renamed)
    print(f"The checkpoint of an earlier run is now {renamed}.")


def refuse_single_row(options, data):
    """Raise if batch norm would meet a batch that is one row, the only one."""
    if options.bn != "none" and len(data.train_y) < 2:
        raise ValueError(
            f"{data.name} must have at least 2 training rows for batch norm, but has "
            f"{len(data.train_y)}. Add rows, or train with --bn none."
        )


def layer_sizes(text):
    """The ``type`` of --layers."""
    return [whole_number(1)(size) for size in text.split(",")]


def parse(arguments):
    """The options, and as ``decisive`` those on which the weights depend."""
    parser = argparse.ArgumentParser(description=__doc__)

    def add(name, default, text, **rest):
        text = f"{text} (default {default})"
        parser.add_argument(name, default=default, help=text, **rest)

    add_image_options(parser, NAMES)
    add("--layers", "100,100,100", "hidden layer sizes", type=layer_sizes)
    add("--activation", "relu", "of hidden layers", choices=ACTIVATIONS)
    add("--bn", "fused", "batch norm", choices=["graph", "fused", "none"])
    add("--optimizer", "adam", "update rule", choices=OPTIMIZERS)
    rates = ", ".join(f"{lr:g} for {name}" for name, (_, lr) in OPTIMIZERS.items())
    parser.add_argument("--lr", type=float, help=f"learning rate (default {rates})")
    add("--batch-size", 60, "rows per step", type=whole_number(2))
    add("--epochs", 20, "passes over the data", type=whole_number(1))
    add("--seed", 0, "of weights and shuffling", type=whole_number(0))
    add("--dtype", "float32", "precision", choices=["float32", "float64"])
    add("--out", "out/train_mlp", "folder for the results", type=Path)
    resume = "continue from the checkpoint in --out"
    parser.add_argument("--resume", action="store_true", help=resume)
    options = parser.parse_args(arguments)
    options.data = data_name(options)
    options.lr = OPTIMIZERS[options.optimizer][1] if options.lr is None else options.lr
    free = ["epochs", "out", "resume", "mnist_dir"]
    options.decisive = {k: str(v) for k, v in vars(options).items() if k not in free}
    return options


def main(arguments=None):
    options = parse(arguments)
    try:
        data = load(options.data, options.dtype, options.mnist_dir)
        refuse_single_row(options, data)
        options.out.mkdir(parents=True, exist_ok=True)
        model = network(options, data)
        kind, _ = OPTIMIZERS[options.optimizer]
        optimizer = kind(model.named_parameters(), options.lr)
        if options.resume:
            history = resume(options, model, optimizer)
        else:
            history = []
            keep_checkpoint(options.out)
        train(options, data, model, optimizer, history)
        draw_training(options.out, data, history, model)
    except (OSError, ValueError) as error:
        sys.exit(f"train_mlp.py: error: {error}")
    except MemoryError:
        sys.exit("train_mlp.py: error: too little memory. Use fewer or smaller layers.")
    print("training accuracy {:.2%}, test accuracy {:.2%}".format(*history[-1][1:]))
    print(f"pictures and checkpoint: {options.out}")


if __name__ == "__main__":
    end_with(None)
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped. --resume continues from the last finished epoch.")
        sys.exit(130)

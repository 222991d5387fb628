"""Train a multilayer perceptron with batch norm on real digits, and see what it learns.

Pictures and a checkpoint go to out/train_mlp/. Ctrl-C keeps the last finished epoch;
--resume goes on from there as if nothing had happened.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from data import NAMES, load, minibatches
from report import draw_training
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
OPTIMIZERS = {"adam": (optim.Adam, 0.003), "sgd": (optim.SGD, 0.1)}


def perceptron(args, data):
    """Hidden layers of linear, batch norm and activation, then a linear layer."""
    rng, dtype = np.random.default_rng(args.seed), args.dtype
    modules, fan_in = [], data.train_x.shape[1]
    for size in args.layers:
        # Batch norm subtracts the mean, and any bias with it; beta takes its place.
        bias = args.bn == "none"
        modules.append(nn.Linear(fan_in, size, bias=bias, rng=rng, dtype=dtype))
        if args.bn != "none":
            modules.append(nn.BatchNorm(size, fused=args.bn == "fused", dtype=dtype))
        modules.append(ACTIVATIONS[args.activation]())
        fan_in = size
    modules.append(nn.Linear(fan_in, data.num_classes, rng=rng, dtype=dtype))
    return nn.Sequential(*modules)


def train(args, data, model, optimizer, history):
    """Train until the history has a row of loss and accuracies for every epoch."""
    rows = len(data.train_y)
    extent = {"initial": len(history) * rows, "total": args.epochs * rows}
    # On matrices this small, a second BLAS thread only waits.
    with threadpool_limits(1), tqdm(**extent, unit=" rows", disable=None) as bar:
        for epoch in range(len(history) + 1, args.epochs + 1):
            # Each epoch has its own generator, so that a resumed run shuffles alike.
            rng = np.random.default_rng([args.seed, epoch])
            loss_sum = 0.0
            for x, y in minibatches(data.train_x, data.train_y, args.batch_size, rng):
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
                args.out / "checkpoint.npz",
                options=args.decisive,
                history=np.array(history),
                model=model.state_dict(),
                optimizer=optimizer.state_dict(),
            )


@tg.no_grad()
def predict(model, x):
    """The class that the model, in evaluation mode, finds most likely for each row."""
    classes = model.eval()(Tensor(x)).data.argmax(axis=1)
    model.train()
    return classes


def resume(args, model, optimizer):
    """Load the checkpoint into the model and the optimizer; return its history."""
    state = tg.load(path := args.out / "checkpoint.npz")
    then = state.get("options", {})
    if then != args.decisive:
        changed = dict(sorted(then.items() - args.decisive.items()))
        raise ValueError(f"--resume must keep to what {path} began with: {changed}.")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"].tolist()


def at_least(least, text):
    if not text.isdecimal() or int(text) < least:
        demand = f"must be a whole number of at least {least}"
        raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
    return int(text)


def sizes(text):
    return [at_least(1, size) for size in text.split(",")]


def parse(arguments):
    """The options, and as ``decisive`` those on which the weights depend."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=defaults)
    add = parser.add_argument
    add("--data", choices=NAMES, default="digits", help="what to learn")
    add("--layers", type=sizes, default="100,100,100", help="sizes of hidden layers")
    add("--activation", choices=ACTIVATIONS, default="relu", help="behind each layer")
    add("--bn", choices=["graph", "fused", "none"], default="fused", help="batch norm")
    add("--optimizer", choices=OPTIMIZERS, default="adam", help="rule for the updates")
    add("--lr", type=float, help="learning rate; else 0.003 (adam) or 0.1 (sgd)")
    add("--batch-size", type=partial(at_least, 2), default=60, help="rows per step")
    add("--epochs", type=partial(at_least, 1), default=20, help="passes over the data")
    add("--seed", type=partial(at_least, 0), default=0, help="of weights and shuffling")
    add("--dtype", choices=["float32", "float64"], default="float32", help="precision")
    add("--out", type=Path, default="out/train_mlp", help="folder for the results")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--mnist-dir", type=Path, help="folder of MNIST's files; else $MNIST_DIR")
    args = parser.parse_args(arguments)
    args.lr = OPTIMIZERS[args.optimizer][1] if args.lr is None else args.lr
    free = ["epochs", "out", "resume", "mnist_dir"]
    args.decisive = {k: str(v) for k, v in vars(args).items() if k not in free}
    return args


def main(arguments=None):
    args = parse(arguments)
    try:
        data = load(args.data, args.dtype, args.mnist_dir)
        args.out.mkdir(parents=True, exist_ok=True)
        model = perceptron(args, data)
        optimizer = OPTIMIZERS[args.optimizer][0](model.parameters(), lr=args.lr)
        history = resume(args, model, optimizer) if args.resume else []
    except (OSError, ValueError) as error:
        sys.exit(f"train_mlp.py: error: {error}")
    train(args, data, model, optimizer, history)
    draw_training(args.out, data, history, model, predict)
    print("training accuracy {:.2%}, test accuracy {:.2%}".format(*history[-1][1:]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped. --resume goes on from the last finished epoch.")
        sys.exit(130)

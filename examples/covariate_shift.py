"""Does batch norm stabilize the inputs of a sigmoid? The first figure of the paper.

    python examples/covariate_shift.py --mnist-dir FOLDER
    python examples/covariate_shift.py

"Internal covariate shift" is the paper's name for the change in the distribution of a
layer's inputs during training. (It is neither about features in different units nor
about differences between two layers.) The paper's Figure 1 shows it in the last hidden
layer. With batch norm, gamma sets how much the inputs of a hidden sigmoid vary from
image to image, from the first step to the last. Without it, these inputs are at first
almost the same for all images. Training makes no progress until they differ, and by
then their spread has grown many times over. Batch norm improves speed far more than
final accuracy, and how much depends on the learning rate: the figure uses lr 0.1 for
both networks. At lr 2, the network without batch norm leaves its plateau early, too,
and after 5000 steps both are equally good.

The network has three hidden layers of 100 sigmoids, and its inputs are binary pixels.
It takes 5000 steps of SGD (the paper: 50,000) on batches of 60, at lr 0.1 and with
weights from N(0, 0.1^2) (the paper gives neither). The script measures the test
accuracy, with running statistics, and the 15th, 50th and 85th percentiles of the inputs
of each sigmoid in the last hidden layer. The percentiles are taken over 2000 training
images (or all, if there are fewer), normalized as in training, by their own statistics.
While gamma is 1, p85 - p15 is about 2.07, the value for N(0, 1).

Without a folder of MNIST, the script uses the smaller digits of scikit-learn, which
give other numbers and a longer plateau. --quick takes a tenth of the steps, each ten
times as long.

Not shown: that stable inputs are what makes a network fast. (They are not; see
loss_landscape.py.) Nor is it a fair comparison to use one learning rate for both.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 4.1 and Figure 1.
"""

from functools import partial
from itertools import pairwise

import numpy as np

from parts.covariate_shift.plots import plot, report
from parts.covariate_shift.run import PERCENTILES, Run
from support import networks
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    parse,
    rate,
)
from support.networks import accuracy, batch_norm_and, perceptron
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, nn, no_grad, optim

BATCH, HIDDEN, STD, HIGH_RATE = 60, (100, 100, 100), 0.1, 2.0


def binary(data):
    """The images with pixels that are 0 (dark) or 1 (bright)."""
    middle = (data.train_x.min() + data.train_x.max()) / 2
    train_x, test_x = (
        (x > middle).astype(np.float32) for x in (data.train_x, data.test_x)
    )
    return data._replace(train_x=train_x, test_x=test_x)


def network(features, classes, bn, rng):
    """Three times linear, batch norm if requested, and sigmoid; then a linear layer."""

    def weights(shape, rng, dtype):
        return (STD * rng.standard_normal(shape)).astype(dtype)

    sizes = (features, *HIDDEN, classes)
    between = batch_norm_and(nn.Sigmoid, bn)
    return perceptron(sizes, between, rng, weights=weights, bias=not bn)


def observe(model, data):
    """The test accuracy, and the percentiles of the inputs of the last sigmoids."""
    before = model.state_dict()
    h = Tensor(data.train_x[:2000])
    with no_grad():
        for module in list(model)[:-2]:
            h = module(h)
    # An observation must not change the running statistics.
    model.load_state_dict(before)
    return accuracy(model, data), np.percentile(h.data, PERCENTILES, axis=0)


def train(data, seed, steps, bn, lr):
    """Take steps of SGD, and observe the network about a hundred times."""
    rng = np.random.default_rng(seed)
    model = network(data.train_x.shape[1], data.num_classes, bn, rng)
    sgd = optim.SGD(model.parameters(), lr)
    every, seen = max(steps // 100, 20), []
    for begin, step in pairwise([0, *range(every, steps, every), steps]):
        title = f"batch norm: {bn}, to step {step} of {steps}"
        networks.train(model, sgd, data, BATCH, step - begin, rng, title)
        seen.append((step, *observe(model, data)))
    return Run(*map(np.array, zip(*seen)), lr)


def measure(data, seed, steps, lr=0.1, jobs=1):
    """Training without batch norm and with it, at this learning rate and a high one."""
    cases = {
        "without": (False, lr),
        "with": (True, lr),
        "without, high": (False, HIGH_RATE),
        "with, high": (True, HIGH_RATE),
    }
    trained = partial(train, binary(data), seed, steps)
    runs = in_parallel(trained, cases.values(), jobs, "training")
    return {name: runs[case] for name, case in cases.items()}


def main(arguments=None):
    parser = experiment_options(__doc__, steps=5000, quick_steps=500)
    add_image_options(parser)
    parser.add_argument("--lr", type=rate, help="of SGD (default 0.1; --quick: 1)")
    add_jobs_option(parser)
    options = parse(parser, arguments)
    if options.lr is None:
        options.lr = 1.0 if options.quick else 0.1
    data = images(options)
    if data.name != "mnist":
        print(f"data: {data.name}; for MNIST, as in the paper, use --mnist-dir")
    jobs = requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.lr, jobs)
    save(lambda theme: plot(measured, data.name, theme), options, "covariate_shift")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()

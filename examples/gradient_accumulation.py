"""Can I accumulate gradients over small batches if the network has batch norm?

    python examples/gradient_accumulation.py
    python examples/gradient_accumulation.py --mnist-dir FOLDER

You can, but you train a different function. A batch that does not fit into memory is
often processed in groups of rows, one after the other (gradient accumulation) or on
several devices (data parallelism). The average of the groups' gradients is the gradient
of the batch if each row has a loss of its own. With batch norm it does not, because the
output for a row depends on the rows with which it is normalized. What is accumulated is
the gradient of *ghost batches*: groups within a batch with statistics of their own.

The script compares both for 128 rows and a network of three hidden layers, at
initialization. On MNIST, the gradient accumulated from two halves deviates by about 40
percent. The one from 64 pairs is hundreds of times as long and points elsewhere: batch
norm divides a pair by half its difference, which is sometimes tiny, and turns it into
+1 and -1, regardless of the rows. What helps:

    larger groups         from about 16 rows on, training hardly suffers here
    ghost batches         normalize groups of, say, 16 rows on purpose, even where the
                          whole batch fits; then any multiple of 16 rows per pass gives
                          the same gradient
    frozen statistics     evaluation mode, usual when a trained network is fine-tuned
    layer norm            each row is normalized by itself

What frameworks do. PyTorch, Keras and Flax normalize what one forward pass on one
device receives. PyTorch's ``SyncBatchNorm``, ``BatchNormalization(synchronized=True)``
in Keras and ``BatchNorm(axis_name=...)`` in Flax share statistics among devices.
Nothing shares them among the passes of an accumulation, which run one after the other.
The running statistics are updated in each pass: with momentum 0.1 and 64 passes per
step, a step leaves 0.9^64 = 0.1 percent of the old ones. Divide the momentum by the
number of passes.

Not shown: that ghost batches are worse in general. Their noise helps in some tasks, and
the best size of a group depends on the task.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 1; for ghost batches Hoffer,
Hubara & Soudry, arXiv 1705.08741, Algorithm 1, and Summers & Dinneen, arXiv 1906.03548;
the documentation of PyTorch, Keras and Flax.
"""

from functools import partial

import numpy as np

from parts.gradient_accumulation.norms import BATCH, FROZEN, GHOST, LAYER, NORMS
from parts.gradient_accumulation.plots import plot, report
from support.command_line import add_image_options, experiment_options, images, parse
from support.networks import accuracy, perceptron, train
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, nn, no_grad, optim

ROWS, HIDDEN, LR = 128, (100, 100, 100), 0.1
GROUPS, GHOST_ROWS = (2, 4, 8, 16, 32, 64), 16


def network(data, norm, rng, group=None, dtype=np.float32):
    """Three hidden ReLU layers. ``group`` is the size of ghost batches."""

    def between(width):
        return *NORMS[norm](width, group, dtype), nn.ReLU()

    sizes = (data.train_x.shape[1], *HIDDEN, data.num_classes)
    return perceptron(sizes, between, rng, dtype=dtype)


def accumulated(model, x, labels, group):
    """The gradient of all parameters as one vector, a group of rows at a time."""
    model.zero_grad()
    passes = len(x) // group
    for rows in np.split(np.arange(len(x)), passes):
        loss = nn.cross_entropy(model(Tensor(x[rows])), labels[rows])
        (loss / passes).backward()
    return np.concatenate([p.grad.ravel() for p in model.parameters()])


def deviations(data, norm, groups, seed):
    """For each group size: relative deviation from the batch's gradient, and cosine."""
    rng = np.random.default_rng(seed)
    model = network(data, norm, rng, GHOST_ROWS, np.float64)
    rows = rng.choice(len(data.train_y), ROWS, replace=False)
    x, labels = data.train_x[rows].astype(float), data.train_y[rows]
    if norm == FROZEN:
        with no_grad():
            model(Tensor(x))
        model.eval()
    g, found = accumulated(model, x, labels, ROWS), []
    for group in groups:
        other = accumulated(model, x, labels, group)
        cosine = g @ other / (np.linalg.norm(g) * np.linalg.norm(other))
        found.append((np.linalg.norm(other - g) / np.linalg.norm(g), cosine))
    return np.array(found).T


def updates(data, group, seed):
    """How often a batch norm updates its running statistics in one accumulation."""
    model = network(data, BATCH, np.random.default_rng(seed))
    accumulated(model, data.train_x[:ROWS], data.train_y[:ROWS], group)
    return int(model[1].running.updates)


def trained(data, steps, norm, group, seed):
    """The test accuracy after training with gradients accumulated over groups.

    With batch norm, they are computed as those of ghost batches, in a single pass.
    """
    rng = np.random.default_rng(seed)
    model = network(data, norm, rng, group)
    train(model, optim.SGD(model.parameters(), LR), data, ROWS, steps, rng)
    return accuracy(model, data)


def measure(data, seed, steps, quick=False, jobs=1):
    """Deviations at initialization, and accuracies after training."""
    groups = GROUPS[::3] if quick else GROUPS
    possible = {
        norm: [n for n in groups if norm != GHOST or n % GHOST_ROWS == 0]
        for norm in NORMS
    }
    cases = [*((GHOST, n, seed) for n in (*groups, ROWS)), (LAYER, ROWS, seed)]
    found = in_parallel(partial(trained, data, steps), cases, jobs, "networks")
    return {
        "groups": possible,
        "deviations": {
            norm: deviations(data, norm, possible[norm], seed) for norm in NORMS
        },
        "updates": {n: updates(data, n, seed) for n in (*groups, ROWS)},
        "accuracy": {case[:2]: value for case, value in found.items()},
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "gradient_accumulation")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()

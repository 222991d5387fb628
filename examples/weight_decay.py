"""What does weight decay do if batch norm cancels the scale of the weights?

    python examples/weight_decay.py
    python examples/weight_decay.py --mnist-dir FOLDER

It sets the angle by which the weights turn in each step. It does not shrink the
function: batch norm divides by the same factor again.

Let w be the weights of a unit before batch norm, with learning rate lr and decay
lambda. The gradient g is orthogonal to w (scale_invariance.py), so that a step
w <- (1 - lr lambda) w - lr g obeys Pythagoras:

    |w|^2 <- (1 - lr lambda)^2 |w|^2 + lr^2 |g|^2

A step turns w by an angle of about lr |g| / |w|. Long weights turn slowly and shrink;
short weights have a large gradient, turn fast and grow. In equilibrium both effects
cancel, 2 lr lambda |w|^2 = lr^2 |g|^2 to leading order, and the angle is

    sqrt(2 lr lambda),

regardless of the data and the initial weights. What matters is the product
lr lambda: (0.5, 0.01) and (0.1, 0.05) turn the weights equally fast. Without decay, the
weights only grow, and the angle decreases from step to step.

The script trains networks with eight settings, and prints the angle at the end of each
next to this formula. Equilibrium takes a few times 1 / (2 lr lambda) steps, and longer
on data that the network fits exactly: the gradient is then nearly zero, and weights
only shrink, until they turn fast enough. (On the digits of scikit-learn, this takes
3,000 steps.) Without batch norm, the gradient is not orthogonal to the weights, and the
formula does not hold.

Not shown: which angle is a good one. An angle of 0.2 costs accuracy here, but decay and
rate can be lowered in the course of the training. Momentum and Adam change the formula,
which is leading order in lr lambda, and assumes that |g| changes slowly.

Source: van Laarhoven, L2 Regularization versus Batch and Weight Normalization,
arXiv 1706.05350; for the angle Wan et al., Spherical Motion Dynamics,
arXiv 2006.08419.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from parts.weight_decay.plots import plot, report
from support.command_line import add_image_options, experiment_options, images, parse
from support.networks import accuracy, batch_norm_and, batches, linears, perceptron
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import nn, optim

HIDDEN, BATCH = (100, 100), 128


class Setting(NamedTuple):
    """The learning rate, the decay of hidden weights, their initial factor, and BN."""

    lr: float
    decay: float
    scale: float = 1.0
    bn: bool = True

    @property
    def theory(self) -> float:
        """The angle per step in equilibrium, to leading order in lr times decay."""
        return math.sqrt(2 * self.lr * self.decay)


STANDARD = Setting(0.5, 0.01)
SAME_PRODUCT, FOUR_TIMES = Setting(0.1, 0.05), Setting(0.5, 0.04)
SHORT, LONG = STANDARD._replace(scale=0.3), STANDARD._replace(scale=3.0)
NO_DECAY = STANDARD._replace(decay=0.0)
TWICE = Setting(0.5, 0.02)
IN_EQUILIBRIUM = (STANDARD, SAME_PRODUCT, FOUR_TIMES, TWICE, SHORT, LONG)
WITHOUT = SAME_PRODUCT._replace(bn=False)


class Run(NamedTuple):
    """|W| of the hidden layers before each step, the angle of each step, accuracy.

    The angle is the root mean square over all hidden units, in radians.
    """

    size: np.ndarray
    angle: np.ndarray
    accuracy: float

    @property
    def final_angle(self) -> float:
        """The root mean square of the angles in the last quarter of the steps."""
        return math.sqrt(np.mean(self.angle[-len(self.angle) // 4 :] ** 2))


def train(data, steps, setting, seed):
    """Train a ReLU network; only hidden weights decay."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *HIDDEN, data.num_classes)
    between = batch_norm_and(nn.ReLU, setting.bn)
    model = perceptron(sizes, between, rng, bias=not setting.bn)
    weights = [layer.weight for layer in linears(model)[:-1]]
    for w in weights:
        w.data = setting.scale * w.data
    rest = [p for p in model.parameters() if p not in set(weights)]
    decaying = optim.SGD(weights, setting.lr, weight_decay=setting.decay)
    optimizers = decaying, optim.SGD(rest, setting.lr)
    lengths, angles, before = [], [], directions(weights)
    for x, labels in batches(data, BATCH, steps, rng):
        lengths.append(np.linalg.norm(decaying.data))
        model.zero_grad()
        nn.cross_entropy(model(x), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
        after = directions(weights)
        angles.append(rms_angle(before, after))
        before = after
    return Run(np.array(lengths), np.array(angles), accuracy(model, data))


def directions(weights):
    """The weights of each unit, scaled to length 1."""
    arrays = [w.data.astype(float) for w in weights]
    return [w / np.linalg.norm(w, axis=0) for w in arrays]


def rms_angle(before, after):
    """The root mean square of the angles between the columns of some matrices."""
    chords = [np.linalg.norm(b - a, axis=0) for a, b in zip(before, after)]
    return math.sqrt(np.mean((2 * np.arcsin(np.concatenate(chords) / 2)) ** 2))


def measure(data, seed, steps, jobs=1):
    """A run for each setting."""
    settings = (*IN_EQUILIBRIUM, NO_DECAY, WITHOUT)
    cases = [(setting, seed) for setting in settings]
    found = in_parallel(partial(train, data, steps), cases, jobs, "networks")
    return {setting: run for (setting, _), run in found.items()}


def main(arguments=None):
    parser = experiment_options(__doc__, steps=1200, quick_steps=300)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, jobs)
    save(lambda theme: plot(measured, theme), options, "weight_decay")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()

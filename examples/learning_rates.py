"""What does batch norm buy? A map of learning rates and initial scales.

    python examples/learning_rates.py
    python examples/learning_rates.py --mnist-dir FOLDER

A wide range of learning rates and of initial weights with which a deep network learns,
and, at the best learning rate of each network, a few points of accuracy. The script
trains the same network of ten hidden ReLU layers with and without batch norm, for seven
learning rates and seven scales of the hidden layers' initial weights: Kaiming He's,
times a factor.

- Without batch norm, the network learns with the factor 1 only, and only up to a
  learning rate of 0.1. With other factors, the signal vanishes or explodes in ten
  layers (gradient_flow.py).
- With batch norm, it learns with all of these factors, from 0.01 to 10, at learning
  rates from 1 to 3.
- At small learning rates and He's weights, batch norm is *behind*. What counts is the
  effective learning rate lr / |W|^2 (scale_invariance.py), and with smaller initial
  weights the same learning rate is large enough. One that is too large decays by
  itself, which is why the map has no border on that side.

So "batch norm trains faster" is a statement about the learning rates that it permits.

Not shown: long training (in 300 steps, a small effective learning rate has no time),
other optimizers, depths and data, on which the borders depend.

Source: Bjorck et al., Understanding Batch Normalization, arXiv 1806.02375, for
learning rates; Arora, Li & Lyu, arXiv 1812.03981, for their automatic decay.
"""

from functools import partial
from itertools import product

import numpy as np

from parts.learning_rates.plots import numbers, plot, report
from support.command_line import add_image_options, experiment_options, images, parse
from support.json_file import add_json_option, save_json
from support.networks import accuracy, batch_norm_and, linears, perceptron, train
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import nn, optim

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
SCALES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10)
DEPTH, WIDTH, BATCH = 10, 100, 128


def network(sizes, bn, scale, rng):
    """Linear layers, batch norm if requested, and ReLU; then a linear layer.

    ``scale`` multiplies Kaiming He's weights of the hidden layers.
    """
    model = perceptron(sizes, batch_norm_and(nn.ReLU, bn), rng, bias=not bn)
    for linear in linears(model)[:-1]:
        linear.weight.data = scale * linear.weight.data
    return model


def trained(data, steps, bn, lr, scale, seed):
    """The test accuracy and the losses of all steps."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = network(sizes, bn, scale, rng)
    sgd = optim.SGD(model.parameters(), lr)
    # Some of these networks overflow, which is a result, not a reason for a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        losses = train(model, sgd, data, BATCH, steps, rng)
        return accuracy(model, data), np.array(losses)


def measure(data, seed, steps, quick=False, jobs=1):
    """The accuracy and the losses for each network of the two maps."""
    rates, scales = (RATES[::3], SCALES[1::3]) if quick else (RATES, SCALES)
    cases = product((False, True), rates, scales, [seed])
    found = in_parallel(partial(trained, data, steps), cases, jobs, "networks")
    accuracies, losses = ({c[:3]: run[i] for c, run in found.items()} for i in (0, 1))
    return {
        "data": data.name,
        "steps": steps,
        "rates": rates,
        "scales": scales,
        "accuracy": accuracies,
        "losses": losses,
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    add_jobs_option(parser)
    add_json_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "learning_rates")
    save_json(numbers(measured), options)
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()

"""The picture and the table of weight_decay.py."""

import numpy as np

from support.plotting import figure
from support.tables import table

EVERY = 25  # steps over which the picture averages


def named(setting):
    """A setting in words."""
    name = f"lr {setting.lr:g}, decay {setting.decay:g}"
    name += f", initial weights x {setting.scale:g}" if setting.scale != 1 else ""
    return name if setting.bn else f"{name}, without batch norm"


def report(measured):
    """The closing table: the angle per step, the weights, and the accuracy."""
    rows = [
        (
            named(setting),
            f"{run.final_angle:.4f}",
            f"{setting.theory:.4f}" if setting.decay and setting.bn else "",
            f"{run.size[0]:.2f}",
            f"{run.size[-1]:.2f}",
            f"{run.accuracy:.1%}",
        )
        for setting, run in measured.items()
    ]
    return table(
        "Angle by which the weights of a unit turn per step, in radians, root mean\n"
        "square of the last quarter of the steps (theory: leading order in lr times\n"
        "decay), |W| of the hidden layers, and test accuracy",
        ("", "angle", "theory", "|W| start", "|W| end", "accuracy"),
        rows,
    )


def plot(measured, theme):
    """Lengths, the balance that stops them, angles by step, and final angles."""
    fig, ((size, balance), (angle, final)) = figure(theme, 2, 2)
    *settings, no_decay, without = measured
    standard, same_product, four_times, _, short, long = settings
    plot_sizes(size, measured, (long, standard, short))
    plot_balance(balance, measured, long)
    plot_angles(angle, measured, (four_times, same_product, standard, no_decay))
    plot_final(final, measured, settings, without)
    return fig


def plot_sizes(axes, measured, settings):
    for setting in settings:
        label = f"{setting.scale:g} times He's"
        axes.plot(measured[setting].size, label=label)
    axes.set(title="Weights forget their initial length", yscale="log")
    axes.set_yticks([5, 10, 20, 50], [5, 10, 20, 50])
    axes.minorticks_off()
    axes.set(xlabel="step", ylabel="|W| of the hidden layers")
    axes.legend(title="initial weights")


def plot_balance(axes, measured, setting):
    squares = measured[setting].size ** 2
    after_decay = (1 - setting.lr * setting.decay) ** 2 * squares[:-1]
    steps, gained = averaged(squares[1:] - after_decay)
    _, lost = averaged(squares[:-1] - after_decay)
    axes.plot(steps, lost, label="removed by decay")
    axes.plot(steps, gained, label="added by the gradient")
    axes.set(title="Decay and gradient come to balance", yscale="log", xlabel="step")
    axes.set_ylabel("change of |W|² per step")
    axes.legend(title=f"initial weights {setting.scale:g} times He's")


def plot_angles(axes, measured, settings):
    for setting in settings:
        steps, squares = averaged(measured[setting].angle ** 2)
        axes.plot(steps, np.sqrt(squares), label=named(setting))
        if setting.decay:
            axes.axhline(setting.theory, color="C4", linewidth=1, linestyle=":")
    axes.set(title="lr times decay sets the angle", yscale="log", ylim=(0.005, 2))
    axes.set_yticks([0.01, 0.03, 0.1, 0.3], [0.01, 0.03, 0.1, 0.3])
    axes.minorticks_off()
    axes.set(xlabel="step", ylabel="angle per step (radians)")
    axes.legend(title="dotted: sqrt(2 lr decay)", ncols=2, columnspacing=1)


def plot_final(axes, measured, settings, without):
    axes.axline((0, 0), slope=1, color="C4", linewidth=1, linestyle=":")
    x, y = zip(*((s.theory, measured[s].final_angle) for s in settings))
    axes.plot(x, y, "o", fillstyle="none", markersize=7, label="batch norm")
    found = measured[without].final_angle
    axes.plot(without.theory, found, "s", color="C1", label="without batch norm")
    axes.set(title="Only batch norm obeys the formula", xlim=(0, 0.23), ylim=(0, 0.23))
    axes.set(xlabel="sqrt(2 lr decay)", ylabel="measured angle per step (radians)")
    axes.legend()


def averaged(values):
    """The middle of each group of steps, and the mean of the values there."""
    groups = len(values) // EVERY
    means = values[: groups * EVERY].reshape(groups, EVERY).mean(axis=1)
    return EVERY * (np.arange(groups) + 0.5), means

"""The command line: ``python -m benchmarks --help``."""

import argparse
from importlib.util import find_spec
from statistics import median, quantiles

from tqdm import tqdm

from . import growth
from .cases import CASES, Case
from .engine import Engine
from .handwritten import Handwritten
from .measure import Times, machine, measure, median_step, rotations
from .peers import PEERS
from .startup import startup
from .tuned import Tuned


def main(arguments: list[str] | None = None) -> None:
    """Measure what was asked for, and print a report."""
    options = parse(arguments)
    print(machine(), flush=True)
    if options.startup:
        rounds = options.rounds or (1 if options.quick else 5)
        print(f"\n{startup(rounds, options.steps or 1000, progress)}")
    elif options.growth:
        growth.main(repeats=1 if options.quick else growth.REPEATS)
    else:
        measure_steps(options)


def measure_steps(options: argparse.Namespace) -> None:
    """Let the contestants of the chosen cases take turns."""
    contestants = {"handwritten": Handwritten, "engine": Engine, "tuned": Tuned}
    if not options.no_peers:
        contestants |= {name: peer for name, peer in PEERS.items() if find_spec(name)}
    rounds = options.rounds or (5 if options.quick else 60)
    for name in options.case or CASES:
        case = CASES[name]
        orders = rotations(list(contestants), rounds)
        times = measure(
            case, contestants, progress(orders), options.steps or case.steps
        )
        print(f"\n{name}: {case}\n{report(times, case)}")


def progress(items):
    """The items, with a progress bar in a terminal."""
    return tqdm(items, leave=False, disable=None)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure a training step of the engine, and compare it with the "
        "same step written by hand in NumPy, plainly and with every trick, and with "
        f"other libraries where they are installed: {', '.join(PEERS)}.",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--startup",
        action="store_true",
        help="measure the time from starting Python to a trained network, and memory",
    )
    instead.add_argument(
        "--growth",
        action="store_true",
        help="measure how time grows with depth, width, inputs, and drawings",
    )
    parser.add_argument(
        "--case",
        action="append",
        choices=CASES,
        help="measure only this case; may be repeated",
    )
    parser.add_argument(
        "--rounds",
        type=at_least_one,
        help="turns of each contestant (default: 60, or 5 with --quick)",
    )
    parser.add_argument(
        "--steps",
        type=at_least_one,
        help="steps per turn (default: set by the case)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="run few rounds, for a first impression"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out the other libraries"
    )
    return parser.parse_args(arguments)


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, but {text!r} was received"
        )
    return int(text)


def report(times: Times, case: Case) -> str:
    """One line per contestant with its ratio, and whether the engine is fast enough.

    The speed of a machine may change in the middle of a run. Therefore medians are
    compared within each round, and the ratio is the median over the rounds.
    """
    yardstick = [median_step([turn]) for turn in times["handwritten"]]
    lines, ratios = [], {}
    for name, rounds in times.items():
        steps = [median_step([turn]) for turn in rounds]
        of_rounds = [a / b for a, b in zip(steps, yardstick, strict=True)]
        ratios[name] = median(of_rounds)
        lines.append(
            f"  {name:12} {median_step(rounds) * 1e6:9.1f} us   {ratios[name]:5.2f}"
        )
        if len(rounds) > 1 and name != "handwritten":
            low, _, high = quantiles(of_rounds, n=4)
            lines[-1] += f"   ({low:.2f} to {high:.2f} in half the rounds)"
    ratio, allowed = ratios["engine"], case.allowed_ratio
    outcome = "within" if ratio <= allowed else "ABOVE"
    lines.append(f"  engine / handwritten = {ratio:.2f}: {outcome} {allowed}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

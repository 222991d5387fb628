"""The command line: ``python -m benchmarks --help``."""

import argparse
from importlib.util import find_spec
from statistics import median, quantiles

from tqdm import tqdm

from .cases import CASES
from .contestants import PEERS, Engine
from .handwritten import Handwritten
from .measure import Times, machine, measure, median_step, rotations
from .tuned import Tuned

ALLOWED_RATIO = 1.4


def main(arguments: list[str] | None = None) -> None:
    """Measure the chosen cases and print a report on each."""
    options = parse(arguments)
    contestants = {"handwritten": Handwritten, "engine": Engine, "tuned": Tuned}
    if options.peers:
        contestants |= {name: peer for name, peer in PEERS.items() if find_spec(name)}
    print(machine())
    for name in options.case:
        case = CASES[name]
        orders = rotations(list(contestants), options.rounds)
        progress = tqdm(orders, name, leave=False, disable=None)
        times = measure(case, contestants, progress, options.steps or case.steps)
        print(f"\n{name}: {case}\n{report(times)}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure a training step of the engine, and compare it with the "
        "same step written by hand in NumPy, plainly and with every trick.",
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
        "--peers",
        action="store_true",
        help=f"also measure these libraries where installed: {', '.join(PEERS)}",
    )
    options = parser.parse_args(arguments)
    options.case = options.case or list(CASES)
    options.rounds = options.rounds or (5 if options.quick else 60)
    return options


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, but {text!r} was received"
        )
    return int(text)


def report(times: Times) -> str:
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
    ratio = ratios["engine"]
    outcome = "within" if ratio <= ALLOWED_RATIO else "ABOVE"
    lines.append(f"  engine / handwritten = {ratio:.2f}: {outcome} {ALLOWED_RATIO}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Measured numbers as a JSON file, for readers that are programs.

The numbers are rounded to four significant digits, and what is not a finite number is
``null``, so that every JSON parser can read the file.
"""

import argparse
import json
import math
from typing import Any

import numpy as np

from support.command_line import result_file


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """The option of experiments whose numbers a program may want: --json."""
    help_text = "file for the measured numbers"
    parser.add_argument("--json", type=result_file, help=help_text)


def save_json(numbers: Any, options: argparse.Namespace) -> None:
    """Save dictionaries, lists, arrays and numbers, if --json names a file."""
    if options.json:
        text = json.dumps(_plain(numbers), separators=(",", ":"), allow_nan=False)
        # One line per entry of the outermost lists, for people who compare versions.
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text.replace("},{", "},\n{") + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, range, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value

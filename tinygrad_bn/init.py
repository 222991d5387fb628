"""Initial weights: a random array whose variance keeps the scale of activations.

``rng`` is a generator of random numbers, a seed, or None for a new seed at each call.

This file imports no other; look here when needed.

Left out on purpose: other distributions. A network may start with any weights, which
``layer.weight.data = ...`` sets.
"""

import math
from typing import Any

import numpy as np


def kaiming_normal(
    shape: tuple[int, int],
    rng: np.random.Generator | int | None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Weights (fan_in, fan_out) of variance 2 / fan_in: keeps the scale through ReLU.

    Source: He et al., arXiv 1502.01852, section 2.2, equation 10.
    """
    rng = generator(rng)
    return (rng.standard_normal(shape) * math.sqrt(2 / shape[0])).astype(dtype)


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """``rng`` itself if it is a generator, or a new generator for a seed or None.

    Whatever else ``numpy.random.default_rng`` accepts, such as several seeds, works.

    Raises: ``TypeError`` or ``ValueError`` for anything else.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "rng must be a NumPy generator of random numbers, a seed (an integer of at "
            f"least 0) or None, but {rng!r:.60} was received."
        ) from None

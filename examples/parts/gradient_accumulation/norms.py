"""Normalizations whose gradients are accumulated: by batch, group, row, or not at all.

A ghost batch is a group of rows within a batch with statistics of its own.

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

from support.ghost_batch_norm import GhostBatchNorm
from tinygrad_bn import nn

NONE, BATCH, LAYER = "no norm", "batch norm", "layer norm"
FROZEN = "batch norm, frozen statistics"
GHOST = "ghost batches"

NORMS = {
    NONE: lambda width, group, dtype: [],
    LAYER: lambda width, group, dtype: [nn.LayerNorm(width, dtype=dtype)],
    FROZEN: lambda width, group, dtype: [nn.BatchNorm(width, dtype=dtype)],
    GHOST: lambda width, group, dtype: [
        GhostBatchNorm(width, group, per_group=True, dtype=dtype)
    ],
    BATCH: lambda width, group, dtype: [nn.BatchNorm(width, dtype=dtype)],
}

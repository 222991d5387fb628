"""Normalizations whose gradients are accumulated: by batch, group, row, or not at all.

A ghost batch is a group of rows within a batch with statistics of its own.

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

from tinygrad_bn import fused_batch_norm, nn

NONE, BATCH, LAYER = "no norm", "batch norm", "layer norm"
FROZEN = "batch norm, frozen statistics"
GHOST = "ghost batches"


class GhostBatchNorm(nn.BatchNorm):
    """Batch norm that in training normalizes each group of ``group`` rows by itself.

    The running statistics are updated once per group, as if it were a batch.
    """

    def __init__(self, num_features, group, **options):
        super().__init__(num_features, **options)
        self.group = group

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        groups = x.reshape(-1, self.group, self.num_features)
        for mean, var in zip(groups.data.mean(axis=1), groups.data.var(axis=1)):
            self.running.update(mean, var, self.group)
        x_hat = fused_batch_norm(groups, axes=(1,), eps=self.eps).reshape(x.shape)
        return x_hat * self.gamma + self.beta


NORMS = {
    NONE: lambda width, group, dtype: [],
    LAYER: lambda width, group, dtype: [nn.LayerNorm(width, dtype=dtype)],
    FROZEN: lambda width, group, dtype: [nn.BatchNorm(width, dtype=dtype)],
    GHOST: lambda width, group, dtype: [GhostBatchNorm(width, group, dtype=dtype)],
    BATCH: lambda width, group, dtype: [nn.BatchNorm(width, dtype=dtype)],
}

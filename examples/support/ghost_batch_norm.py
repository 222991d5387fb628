"""Batch norm that normalizes groups of each batch separately: "ghost batches".

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

import numpy as np

from tinygrad_bn import Tensor, fused_batch_norm, nn


class GhostBatchNorm(nn.BatchNorm):
    """Batch norm that in training normalizes each group of ``group`` rows by itself.

    The running statistics are those of whole batches, so that they favor no group size.
    With ``per_group`` they are updated once per group instead, as happens if gradients
    are accumulated over the groups.

    Raises: ``ValueError`` in training if the rows do not split into groups.
    """

    def __init__(
        self,
        num_features: int,
        group: int,
        *,
        per_group: bool = False,
        dtype=np.float32,
    ):
        super().__init__(num_features, dtype=dtype)
        self.group, self.per_group = group, per_group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if len(x) % self.group:
            raise ValueError(
                f"GhostBatchNorm: a batch must split into groups of {self.group}, but "
                f"{len(x)} rows were received. Take a multiple of {self.group}."
            )
        rows = self.group if self.per_group else len(x)
        for seen in x.data.reshape(-1, rows, self.num_features):
            self.running.update(seen.mean(axis=0), seen.var(axis=0), rows)
        groups = x.reshape(-1, self.group, self.num_features)
        x_hat = fused_batch_norm(groups, axes=(1,), eps=self.eps).reshape(x.shape)
        return x_hat * self.gamma + self.beta

"""The tape behind a tensor, as plain data.

``tape(y)`` returns the tensors that operations made, newest first, and the set of all
tensors behind ``y``.
"""

from tinygrad_bn.tensor import tape

__all__ = ["tape"]

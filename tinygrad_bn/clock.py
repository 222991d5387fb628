"""Logical time: a counter that dates every operation and every change of a leaf.

This file imports no other; look here when needed.

Left out on purpose: the time of day, which is too coarse to order two operations.
"""

import itertools


class Clock:
    """Logical time, as defined by Lamport: it only ever moves forward.

    Source: Lamport, Time, Clocks, and the Ordering of Events, CACM 21 (1978), rule IR2.
    """

    def __init__(self) -> None:
        self.tick = itertools.count(1).__next__

    def pass_by(self, timestamp: int) -> None:
        """Move beyond the ``timestamp`` of a tensor that another process made."""
        now = self.tick()
        if timestamp >= now:
            self.tick = itertools.count(timestamp + 1).__next__


clock = Clock()

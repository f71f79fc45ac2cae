"""How exactly a deadline arrives at the other side."""

ROUNDING_S = 0.2
"""By how much more time may be left there than was given: gRPC sends a deadline in as few digits as
it can, rounded up, and two of this machine's clocks may have moved apart meanwhile."""

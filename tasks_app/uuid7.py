"""
Time-ordered identifiers: UUID version 7 (RFC 9562, section 5.7).

Rows enqueued together lie together in the index, and ids sort by age: those of one thread strictly,
also within a millisecond and when the clock is set back (section 6.2, method 3). Python 3.14 brings
`uuid.uuid7`; this module goes when 3.13 is no longer supported.
"""

import os
import time
from uuid import UUID

#: The time of the last id, in 4096ths of a millisecond. No lock guards it, since a fork may happen
#: while another thread holds it; without one, two threads at worst have ids of the same time.
_last = 0


def uuid7() -> UUID:
    """Return a new UUIDv7: 60 bits of Unix time in 4096ths of a millisecond, 62 random bits."""
    global _last  # noqa: PLW0603 - one clock for the process
    ticks = max((time.time_ns() << 12) // 1_000_000, _last + 1)
    _last = ticks
    value = (ticks >> 12 & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(8))
    value = value & ~(0xFFFF << 64) | 0x7000 << 64 | (ticks & 0xFFF) << 64
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)

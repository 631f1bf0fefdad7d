"""
Time-ordered identifiers: UUID version 7 (RFC 9562, section 5.7).

Rows enqueued together lie together in the index, and ids sort by age. Python 3.14 brings
`uuid.uuid7`; this module goes when 3.13 is no longer supported.
"""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random_bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)

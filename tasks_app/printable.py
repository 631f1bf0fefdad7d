"""
Text of others as a terminal or a log may have it: nothing in it moves, hides or turns.

Control characters, among them the escape that begins a terminal's commands, and those that change
the direction of writing or take no room, are written as what they are.
"""

from typing import Final

#: Marks and overrides of direction; characters without width that no language needs.
_DECEPTIVE: Final = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
_INVISIBLE: Final = "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"

_UNSAFE: Final = {*range(0x20), *range(0x7F, 0xA0), *map(ord, _DECEPTIVE + _INVISIBLE)}
_ESCAPES: Final = {point: repr(chr(point))[1:-1] for point in _UNSAFE - {*b"\n\t"}}
_JSON_ESCAPES: Final = {point: f"\\u{point:04x}" for point in _UNSAFE - {*range(0x20)}}


def plain(text: str) -> str:
    r"""
    Return a text with what would not be seen as it is written out; its lines stay.

    >>> print(plain("red\x1b[31m"))
    red\x1b[31m
    """
    return text.translate(_ESCAPES)


def plain_json(text: str) -> str:
    """Return JSON text with the same characters escaped as JSON has it."""
    return text.translate(_JSON_ESCAPES)

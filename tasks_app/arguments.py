"""
Canonical JSON in and out: what a call's arguments and a helper's result look like at rest.

The invariant: what is accepted comes back identical, in value and type, from any database
(tuples become lists), and everything else is refused before a row exists, naming where it is,
its type and what to pass instead, but never the value. The text is ASCII, so no collation or
character set can touch it. Types beyond JSON's own travel in kombu's codec.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from kombu.utils.json import JSONEncoder, dumps, object_hook, register_type

from tasks_app.exceptions import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Containers inside one another, counted from the value itself.
MAX_DEPTH: Final = 32

_INT64: Final = range(-(2**63), 2**63)
_ENVELOPE: Final = frozenset({"__type__", "__value__"})
_SHOWN_KEY_LENGTH: Final = 40
_WHOLE_SECONDS: Final = "a zone whose offset is whole seconds"

#: Made once: `json.loads` makes one for each text.
_decoder: Final = json.JSONDecoder(object_hook=object_hook)

#: Where a value stands: its parent's place and its own key or index.
_Place = tuple[Any, ...]


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], max_bytes: int
) -> tuple[str, str]:
    """
    Write a call's arguments as two JSON texts.

    Args:
        args: the positional arguments, a list or tuple.
        kwargs: the keyword arguments.
        max_bytes: most that both texts may take together.

    Returns:
        The text of the list and the text of the object; `decode` reads either.

    Raises:
        InvalidArgument: something would not come back identical, or is too large.

    """
    check = _Check(max_bytes, "pass")
    if not isinstance(args, list | tuple):
        check.refuse(("args",), args, "a list or tuple of the positional arguments")
    if not isinstance(kwargs, Mapping):
        check.refuse(("kwargs",), kwargs, "a dict of the keyword arguments")
    texts = (
        check.text(list(args), "args") if args else "[]",
        check.text(dict(kwargs), "kwargs") if kwargs else "{}",
    )
    if len(texts[0]) + len(texts[1]) > max_bytes:
        check.refuse_size()
    return texts


def encode_result(value: object, max_bytes: int) -> tuple[str | None, str | None]:
    """
    Write a helper's result as JSON text, or say why it is left out.

    Never raises, whatever the value does when touched: a result that cannot be kept must not
    turn a success into a failure.

    Returns:
        The text and None, or None and the reason, one line without the value.

    """
    check = _Check(max_bytes, "return")
    try:
        check.visit(value, ("result",), 0)
        text = _to_text(value)
        if len(text) > max_bytes:
            check.refuse_size()
    except InvalidArgument as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - a metaclass may raise anything it likes
        return None, f"result: reading it raised {type(error).__name__}."
    return text, None


def decode(text: str) -> Any:
    """
    Read a text that this module wrote.

    >>> decode(encode_arguments([1, (2, 3)], {}, 1000)[0])
    [1, [2, 3]]

    Raises:
        ValueError: the text is not JSON, or names a type that nobody registered.

    """
    return _decoder.decode(text)


def digest(args_text: str, kwargs_text: str) -> str:
    """
    Hash arguments, as encoded, so that equal ones hash equal whatever their dicts' order.

    It is a SHA-256 in hex. Values that differ in type differ here too: ``1``, ``1.0`` and ``True``
    are three. ``charge(7)`` and ``charge(order_id=7)`` are made alike by binding them first.
    """
    canonical = f"[{args_text},{kwargs_text}]"
    if "{" in args_text or kwargs_text != "{}":
        # Only dicts have an order that does not count.
        canonical = json.dumps(json.loads(canonical), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _register_timedelta() -> None:
    # kombu knows none; where the project registered its own, that one wins.
    try:
        dumps(timedelta(0))
    except TypeError:
        register_type(
            timedelta,
            "timedelta",
            lambda span: [span.days, span.seconds, span.microseconds],
            lambda parts: timedelta(*parts),
        )


_register_timedelta()
# The depth is bounded before the encoder runs, so its own search for cycles would be waste.
_to_text = JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


class _Check:
    """
    One pass over one call's values, stopping at the first that must be refused.

    ``left`` counts down the fewest bytes that what was seen must take. It ends the pass early on
    values that share parts (thirty lists, each holding the one before twice, are 2³⁰ nodes).
    """

    __slots__ = ("left", "max_bytes", "verb")

    def __init__(self, max_bytes: int, verb: str) -> None:
        self.max_bytes = self.left = max_bytes
        self.verb = verb

    def text(self, value: object, name: str) -> str:
        """Accept and write an outer container: it is the call's own and counts for no depth."""
        self.visit(value, (name,), -1)
        return _to_text(value)

    def visit(self, value: object, place: _Place, depth: int) -> None:
        """Accept ``value`` or raise; the commonest kinds are asked for first."""
        kind = type(value)
        if kind is str:
            self._string(value, place)  # type: ignore[arg-type]
        elif kind is int:
            if value not in _INT64:
                self.refuse(place, value, "it as text, since integers end at 64 bits")
        elif value is None or kind is bool:
            return
        elif kind is dict:
            self._dict(value, place, depth + 1)  # type: ignore[arg-type]
        elif kind is list or kind is tuple:
            self._list(value, place, depth + 1)  # type: ignore[arg-type]
        elif kind in _OBJECTIONS:
            remedy = _OBJECTIONS[kind](value)
            if remedy:
                self.refuse(place, value, remedy)
        else:
            self.refuse(place, value, _substitute(kind))

    def _string(self, value: str, place: _Place) -> None:
        self._spend(len(value))
        if "\0" in value:
            self.refuse(place, value, "text without NUL characters")
        if not value.isascii() and has_surrogate(value):
            self.refuse(place, value, "text without lone surrogates (decode the bytes properly)")

    def _dict(self, value: dict[Any, Any], place: _Place, depth: int) -> None:
        self._enter(len(value), value, place, depth)
        for key, item in value.items():
            if type(key) is not str:
                self._refuse_key(key, place)
            self._string(key, (place, key))
            self.visit(item, (place, key), depth)
        if value.keys() == _ENVELOPE:
            self.refuse(place, value, "other keys than just __type__ and __value__")

    def _list(self, value: Sequence[Any], place: _Place, depth: int) -> None:
        self._enter(len(value), value, place, depth)
        for index, item in enumerate(value):
            self.visit(item, (place, index), depth)

    def _enter(self, length: int, value: object, place: _Place, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.refuse(place, value, f"at most {MAX_DEPTH} containers inside one another")
        self._spend(length)

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            self.refuse_size()

    def _refuse_key(self, key: object, place: _Place) -> NoReturn:
        remedy = f"{self.verb} str keys"
        message = f"{_path(place)} has a key of type {_name(type(key))}: {remedy}."
        raise InvalidArgument(message, path=_path(place), remedy=remedy)

    def refuse(self, place: _Place, value: object, remedy: str) -> NoReturn:
        """Raise for the value at ``place``; ``remedy`` continues "pass" or "return"."""
        remedy = f"{self.verb} {remedy}"
        message = f"{_path(place)} is of type {_name(type(value))}: {remedy}."
        raise InvalidArgument(message, path=_path(place), remedy=remedy)

    def refuse_size(self) -> NoReturn:
        """Raise for all values together."""
        remedy = f"store the data and {self.verb} its key"
        what = "result" if self.verb == "return" else "args and kwargs"
        message = f"{what} take more than {self.max_bytes} bytes as JSON: {remedy}."
        raise InvalidArgument(message, path=what, remedy=remedy)


def _object_to_float(value: float) -> str:
    return "" if math.isfinite(value) else "a finite number, or None"


def _object_to_decimal(value: Decimal) -> str:
    return "" if value.is_finite() else "a finite Decimal, or None"


def _object_to_datetime(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is not None:
        # CPython 3.11 reads back an offset of less than a second as zero.
        return _WHOLE_SECONDS if offset.microseconds else ""
    if value.tzinfo is not None:
        return "a datetime whose tzinfo knows its offset"
    return "an aware datetime, since fold=1 means nothing without a zone" if value.fold else ""


def _object_to_time(value: time) -> str:
    offset = value.utcoffset()
    if offset is not None and offset.microseconds:
        return _WHOLE_SECONDS
    if value.tzinfo is not None and offset is None:
        return "a datetime, since this zone's offset depends on the date"
    return "a time without fold=1" if value.fold else ""


def _accept(_: object) -> str:
    return ""


#: The types beyond JSON's own that come back identical, except for what each function objects to
#: by saying what to pass instead.
_OBJECTIONS: Final[dict[type, Callable[[Any], str]]] = {
    float: _object_to_float,
    Decimal: _object_to_decimal,
    datetime: _object_to_datetime,
    time: _object_to_time,
    date: _accept,
    timedelta: _accept,
    UUID: _accept,
}

#: What to pass instead of an instance, by the dotted name of its class or of a class it derives
#: from: names, so that nothing needs importing. The first that fits wins, builtins come last.
_SUBSTITUTES: Final[dict[str, str]] = {
    "enum.Enum": "its .value",
    "django.db.models.base.Model": "its pk and load the row in the helper",
    "django.db.models.query.QuerySet": 'list(queryset.values_list("pk", flat=True))',
    "django.db.models.manager.BaseManager": "the primary keys of the rows",
    "django.forms.forms.BaseForm": "its cleaned_data",
    "django.http.request.HttpRequest": "the few values of the request that the helper needs",
    "django.http.request.QueryDict": "value.dict()",
    "django.utils.functional.Promise": "str(value), in the language the helper should see",
    "django.utils.functional.LazyObject": "the pk of the object it stands for",
    "django.core.files.base.File": "its name and open it from its storage in the helper",
    "_io._IOBase": "the file's name, or its content as text",
    "tempfile._TemporaryFileWrapper": "the file's name, or its content as text",
    "numpy.generic": "value.item()",
    "numpy.ndarray": "value.tolist()",
    "pandas.core.frame.DataFrame": 'value.to_dict("records")',
    "pandas.core.series.Series": "value.tolist()",
    "pydantic.main.BaseModel": 'value.model_dump(mode="json")',
    "builtins.set": "a list",
    "builtins.frozenset": "a list",
    "builtins.bytes": "base64 text",
    "builtins.bytearray": "base64 text",
    "builtins.memoryview": "base64 text",
    "builtins.complex": "a list of its real and imaginary part",
    "builtins.BaseException": "str(error)",
    "builtins.function": "its dotted name",
    "builtins.type": "its dotted name",
    "builtins.str": 'a plain str: "".join(value)',
    "builtins.int": "a plain int: int(value)",
    "builtins.float": "a plain float: float(value)",
    "builtins.list": "a plain list: list(value)",
    "builtins.dict": "a plain dict: dict(value)",
    "builtins.tuple": "a list: list(value)",
    "decimal.Decimal": "a plain Decimal: Decimal(value)",
    "datetime.datetime": "a plain datetime: datetime.fromisoformat(value.isoformat())",
    "datetime.date": "a plain date: date.fromisoformat(value.isoformat())",
    "datetime.time": "a plain time: time.fromisoformat(value.isoformat())",
    "datetime.timedelta": "a plain timedelta, or seconds",
    "datetime.tzinfo": "the zone's name",
    "uuid.UUID": "a plain UUID: UUID(str(value))",
    "fractions.Fraction": "str(value)",
    "pathlib.PurePath": "str(value)",
    "pathlib._local.PurePath": "str(value)",  # its module in Python 3.13
    "re.Pattern": "its .pattern",
    "ipaddress._IPAddressBase": "str(value)",
}
_ITERABLE_SUBSTITUTE: Final = "a list: list(value)"
_DEFAULT_SUBSTITUTE: Final = "its id, or the plain values that the helper needs"


def _substitute(kind: type) -> str:
    if hasattr(kind, "__dataclass_fields__"):
        return "dataclasses.asdict(value), or its id"
    lineage = {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}
    fallback = _ITERABLE_SUBSTITUTE if hasattr(kind, "__iter__") else _DEFAULT_SUBSTITUTE
    return next((text for name, text in _SUBSTITUTES.items() if name in lineage), fallback)


def _name(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def has_surrogate(text: str) -> bool:
    """Tell whether a text holds a lone surrogate, which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _path(place: _Place) -> str:
    if len(place) == 1:
        return f"{place[0]}"
    parent, key = place
    return f"{_path(parent)}{_step(key)}"


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    if key.isidentifier() and len(key) <= _SHOWN_KEY_LENGTH:
        return f".{key}"
    return f"[{key[:_SHOWN_KEY_LENGTH]!a}]"

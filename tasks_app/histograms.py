"""
Histograms of lengths of time, with buckets that grow geometrically: five for each doubling.

That is the form of Prometheus' native histograms, and quantiles are read from it in the way of its
`histogram_quantile`: https://prometheus.io/docs/prometheus/latest/querying/functions/. A quantile
lies in the bucket that it is read from, so it is off by 15 % at most. Bucket `n` holds what takes
`2 ** (n / 5)` seconds or more, and less than what its neighbour begins with.
"""

import math
from collections.abc import Mapping
from typing import Any

from django.db.models import Case, Expression, F, FloatField, Func, Q, Value, When
from django.db.models.functions import Floor, Greatest, Least, Ln

#: Buckets for each doubling.
PER_DOUBLING = 5

#: Seconds: whatever is shorter or longer counts as this. A thousandth, and a day and a half.
SHORTEST, LONGEST = 2.0**-10, 2.0**17


class Seconds(Func):
    """The seconds from one time to another, `Seconds(later, earlier)`, as the database has them."""

    arity = 2
    output_field = FloatField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # As a double: PostgreSQL's logarithm of a numeric is many times slower.
        template = "EXTRACT(EPOCH FROM (%(expressions)s))::double precision"
        return self.as_sql(compiler, connection, template=template, arg_joiner=" - ", **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        later, earlier = self.get_source_expressions()
        turned = Func(earlier, later, output_field=FloatField())
        template = "(TIMESTAMPDIFF(MICROSECOND, %(expressions)s) / 1e6)"
        return turned.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # It reads times in whole milliseconds, and its days are binary fractions.
        template = "ROUND((JULIANDAY(%(expressions)s)) * 86400, 3)"
        joiner = ") - JULIANDAY("
        return self.as_sql(compiler, connection, template=template, arg_joiner=joiner, **context)


def bucket(later: str, earlier: str) -> Expression:
    """Return the bucket of the time between two columns; null where one of them is."""
    bounded = Least(Greatest(Seconds(F(later), F(earlier)), SHORTEST), LONGEST)
    number = Floor(Ln(bounded) * Value(PER_DOUBLING / math.log(2)))
    # PostgreSQL's GREATEST passes over nulls.
    missing = Q(**{f"{later}__isnull": True}) | Q(**{f"{earlier}__isnull": True})
    return Case(When(missing, then=Value(None)), default=number, output_field=FloatField())


def bounds(number: int) -> tuple[float, float]:
    """Return the seconds that a bucket begins and ends with."""
    lower, upper = (2.0 ** (place / PER_DOUBLING) for place in (number, number + 1))
    return lower, upper


def quantile(q: float, histogram: Mapping[int, float]) -> float | None:
    """
    Return the length, in seconds, that the part `q` of all does not exceed; None if there is none.

    Within its bucket a value's place is taken to grow geometrically, as the buckets do.

    >>> round(quantile(0.5, {0: 10}), 3)
    1.072

    """
    rank = q * sum(histogram.values())
    passed = 0.0
    for number, count in sorted(histogram.items()):
        if count and passed + count >= rank:
            lower, upper = bounds(number)
            return float(lower * (upper / lower) ** max((rank - passed) / count, 0))
        passed += count
    return None

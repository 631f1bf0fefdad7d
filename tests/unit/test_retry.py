"""Retry policies: bounded, spread, decided by the kind of error."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app import retry
from tasks_app.durations import LONGEST
from tasks_app.exceptions import ConfigurationError
from tasks_app.retry import NO_RETRY, RetryPolicy

spans = st.timedeltas(timedelta(0), LONGEST)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10**6),
    initial=spans | st.floats(0, 10**6),
    factor=st.floats(1, 1e300),
    maximum=spans,
    jitter=st.booleans(),
)


@given(policy=policies, failures=st.integers(1, 10**6))
def test_a_wait_is_never_negative_and_never_beyond_the_maximum(
    policy: RetryPolicy, failures: int
) -> None:
    """However long it has been failing; rounding to milliseconds aside."""
    wait = policy.delay(failures)
    assert timedelta(0) <= wait <= policy.maximum + timedelta(milliseconds=1)


@given(
    policy=policies.map(lambda policy: dataclasses.replace(policy, jitter=False)),
    failures=st.integers(1, 1_000),
)
def test_without_jitter_waits_only_grow(policy: RetryPolicy, failures: int) -> None:
    """A later failure never waits less than an earlier one."""
    assert policy.delay(failures) <= policy.delay(failures + 1)


@given(failures=st.integers(1, 9), factor=st.sampled_from([1, 1.5, 2, 3, 10]))
def test_waits_grow_by_the_factor(failures: int, factor: float) -> None:
    """The formula of the docstring, to the millisecond."""
    policy = RetryPolicy(initial=0.25, factor=factor, maximum=LONGEST, jitter=False)
    expected = min(timedelta(seconds=0.25) * factor ** (failures - 1), LONGEST)
    assert abs(policy.delay(failures) - expected) <= timedelta(milliseconds=1)


def test_full_jitter_spreads_over_the_whole_wait() -> None:
    """Two hundred draws of ten seconds reach both ends and are hardly ever equal."""
    policy = RetryPolicy(initial=10)
    waits = [policy.delay(1) for _ in range(200)]
    assert min(waits) < timedelta(seconds=2)
    assert max(waits) > timedelta(seconds=8)
    assert len(set(waits)) > 150


def test_short_waits_are_spread_too() -> None:
    """A wait of one second is drawn in milliseconds, not rounded to none or one."""
    assert any(timedelta(0) < RetryPolicy().delay(1) < timedelta(seconds=1) for _ in range(50))


def test_the_last_attempt_is_the_last() -> None:
    """max_attempts counts runs, the first included."""
    policy = RetryPolicy(max_attempts=3)
    assert [policy.decide(ValueError(), failures) is None for failures in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert NO_RETRY.decide(ValueError(), 1) is None


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (OSError(), True),
        (ConnectionError(), True),
        (FileNotFoundError(), False),
        (ValueError(), False),
        (SystemExit(), False),
    ],
)
def test_the_kind_of_error_decides(error: BaseException, *, retryable: bool) -> None:
    """give_up_on overrules retry_on, subclasses included."""
    policy = RetryPolicy(retry_on=OSError, give_up_on=[FileNotFoundError])
    assert policy.is_retryable(error) is retryable
    assert (policy.decide(error, 1) is not None) is retryable


def test_by_default_every_exception_is_retried_but_no_exit() -> None:
    """SystemExit and KeyboardInterrupt end things on purpose."""
    assert RetryPolicy().is_retryable(MemoryError())
    assert not RetryPolicy().is_retryable(SystemExit())
    assert not RetryPolicy().is_retryable(KeyboardInterrupt())


def test_a_policy_is_a_value() -> None:
    """Equal, hashable, frozen, copied and pickled like one."""
    policy = RetryPolicy(initial=2, retry_on=OSError)
    assert policy == RetryPolicy(initial=timedelta(seconds=2), retry_on=(OSError,))
    assert hash(policy) == hash(copy.deepcopy(policy))
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert dataclasses.replace(policy, max_attempts=9).initial == timedelta(seconds=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_attempts = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", -1),
        ("max_attempts", 2.0),
        ("max_attempts", True),
        ("max_attempts", None),
        ("initial", -1),
        ("initial", math.nan),
        ("initial", "1s"),
        ("maximum", math.inf),
        ("maximum", None),
        ("factor", 0.5),
        ("factor", math.nan),
        ("factor", math.inf),
        ("factor", "2"),
        ("jitter", 0.1),
        ("retry_on", "ValueError"),
        ("retry_on", (ValueError, "OSError")),
        ("give_up_on", int),
        ("give_up_on", ValueError()),
    ],
)
def test_a_senseless_option_is_refused_by_name(option: str, value: object) -> None:
    """The error stands where the policy is written, not where it is first used."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigurationError, match=option):
        RetryPolicy(**options)


def test_the_docstring_examples_hold() -> None:
    """Stale examples are lies."""
    assert doctest.testmod(retry).failed == 0

"""What `task()` accepts, and how it refuses the rest."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tasks_app import task
from tasks_app.exceptions import ConfigurationError
from tests.testapp import helpers


@pytest.mark.parametrize("helper", [lambda: None, print, partial(helpers.add, 1)])
def test_what_is_no_function_with_a_name_is_refused(helper: Any) -> None:
    """A lambda, a built-in and a partial have no name or signature that a worker could rely on."""
    with pytest.raises(ConfigurationError, match=r"plain functions made with def; .* is none"):
        task(helper)

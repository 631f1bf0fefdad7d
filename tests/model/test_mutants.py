"""The machine finds what it is for: each guard that is gone breaks a rule within a short run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.history import log
from tests.model.damage import MUTANTS, find

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_machine_finds(mutant):
    """A machine that finds nothing here would prove nothing about the sound code."""
    stories = os.environ.get("TASKS_MODEL_STORIES")
    with log.installed():
        finding = find(mutant, shrink=bool(stories))
    assert finding is not None
    if stories:
        with Path(stories).open("a") as file:
            file.write(
                f"{mutant.name:24}{finding.steps:8}{finding.examples:10}{finding.original:10}"
                f"{finding.shortest:10}   {str(finding.error).splitlines()[0]}\n"
            )

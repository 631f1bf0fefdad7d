"""What the test tasks write: rows whose number shows how often a helper took effect."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    """
    One effect of one helper.

    There is no unique constraint on purpose: an effect that happened twice must show as two
    rows instead of being hidden by the database.
    """

    key = models.CharField(max_length=200, db_index=True)
    note = models.TextField(default="")

    def __str__(self) -> str:
        return f"{self.key}: {self.note}"


class Account(models.Model):
    """A balance that helpers change: a row that several of them want to lock."""

    name = models.CharField(max_length=200)
    balance = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.balance}"

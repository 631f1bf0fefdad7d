"""What the tests of the promises share."""

from tests.installation import effects, key

__all__ = ["effects", "key"]

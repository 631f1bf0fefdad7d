"""The installation that the scenarios run on, and the worker that they share."""

from tests.installation import effects, installation, key, main_worker, settled, worker

__all__ = ["effects", "installation", "key", "main_worker", "settled", "worker"]

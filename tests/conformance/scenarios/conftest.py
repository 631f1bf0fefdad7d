"""The installation that the scenarios run on, and the workers that they share."""

from tests.conformance.scenarios.hostile import target
from tests.installation import effects, installation, key, main_worker, settled, worker

__all__ = ["effects", "installation", "key", "main_worker", "settled", "target", "worker"]

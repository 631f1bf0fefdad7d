"""
Periodic jobs: each slot of a schedule fires once.

`@periodic(…)` declares one, and this package may be called as that function: `tasks_app.periodic`
is both. What reads tables is not imported here, so a task module may use it before Django is ready.
"""

import sys
from types import ModuleType
from typing import Any

from tasks_app.periodic.declaring import every, periodic, solar
from tasks_app.periodic.policies import Missed, Overlap

__all__ = ["Missed", "Overlap", "every", "periodic", "solar"]


class _CallablePackage(ModuleType):
    """Importing any module in here puts the package in place of the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return periodic(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage

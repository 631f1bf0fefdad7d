"""Who may look: whoever may view outcomes. Nobody writes rows by hand."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from tasks_app import acts

#: Opens every page of the console.
VIEW = acts.VIEW

#: Opens what helpers were called with, what they returned and what they logged.
VIEW_ARGUMENTS = "tasks_app.view_outcome_arguments"


def may_read_arguments(request: Any) -> bool:
    """Tell whether the user may see arguments, results and log lines."""
    return bool(request.user.has_perm(VIEW_ARGUMENTS))


def user_key(text: str) -> Any:
    """Return a user's primary key from its text; None where no user can have it."""
    field: Any = get_user_model()._meta.pk
    try:
        key = field.to_python(text)
        field.run_validators(key)
    except ValidationError:
        return None
    return key


class ReadOnly:
    """Whoever may view outcomes may view this; nobody may write it."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return bool(request.user.has_perm(VIEW))

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False

"""Visitors of the console, by what they may do."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client


def entered(*rights: str) -> Client:
    """Return a client of staff with these permissions, which may look in any case."""
    user = get_user_model().objects.create_user("visitor", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_outcome", *rights)))
    client = Client()
    client.force_login(user)
    return client

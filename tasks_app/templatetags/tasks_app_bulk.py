"""Template filters of the pages about bulk actions."""

from django import template

register = template.Library()


@register.filter
def grouped(number: int) -> str:
    """Return a number with its thousands apart, without an app of Django's for that."""
    return f"{number:,}"

"""A small Django app whose helpers leave visible effects."""

"""Contestant: the same with a SQLite as Django sets it up, without WAL."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.files_settings"

from benchmarks.with_files import app, call, fill, has_result, noop

__all__ = ["app", "call", "fill", "has_result", "noop"]

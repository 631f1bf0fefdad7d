"""The same with the options that this project's system check asks for."""

from benchmarks.files_settings import *  # noqa: F403 - settings extend settings
from benchmarks.sqlite_settings import DATABASES

DATABASES["default"]["OPTIONS"] = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL;",
}

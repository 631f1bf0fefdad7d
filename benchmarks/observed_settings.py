"""Settings of the contestant that tells of everything, as `dict_config` has it in production."""

from benchmarks.settings import *  # noqa: F403 - settings extend settings
from tasks_app.logs import dict_config

LOGGING = dict_config(debug=False)

"""
The sub-commands of `manage.py tasks`, one small module each.

Each module is a sub-command: `HELP` says in one line what it does, `add_arguments(parser)` what
it accepts, and `run(command, options)` parses, calls one function of the app and renders.
"""

"""Who types a sub-command, as far as the system knows."""

import getpass


def operator() -> str:
    """Return the name of the system's user; "" where it has none."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user often has no name
        return ""

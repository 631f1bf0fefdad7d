"""
Who reaches Flower: this machine alone, or whoever has shown that they may.

Flower asks nobody anything unless it is told to, wherever it listens. Here it does not start where
others than this machine's users could reach it without a password or a login. It is looked at what
holds in the end, whether it came from the environment, a configuration file or the command line.
"""

import socket
from ipaddress import ip_address
from typing import Any

from click import ClickException

REMEDY = (
    "Give it a password (--basic_auth=operator:<password> or FLOWER_BASIC_AUTH) or a login (--auth "
    "with --auth_provider), or leave the address out: it then listens on 127.0.0.1."
)


def check(options: Any) -> None:
    """
    Refuse to open a door that nobody watches.

    Raises:
        ClickException: Flower would listen to the network and ask nobody, or its password is empty.
    """
    if any(not password(entry) for entry in options.basic_auth or ()):
        raise ClickException(
            "Flower is not started: an entry of its basic_auth has no password, so whoever sends "
            f"none would come in. {REMEDY}"
        )
    if options.basic_auth or options.auth or options.unix_socket or is_loopback(options.address):
        return
    raise ClickException(
        f"Flower is not started: with the address {options.address!r} it would listen to the "
        "network, and it has neither basic_auth nor auth, so it would show its pages to everybody. "
        f"{REMEDY}"
    )


def password(entry: str) -> str:
    """Return the password of an entry of basic_auth."""
    return entry.partition(":")[2].strip()


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches an address; no address means every interface."""
    if not address:
        return False
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ClickException(f"Flower's address {address!r} cannot be found: {error}") from error
    hosts = [str(where[0]).partition("%")[0] for *_, where in found]
    return all(ip_address(host).is_loopback for host in hosts)

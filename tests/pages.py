"""Asking a web process of the installation for a page, as a browser or a scraper would."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping


def asked(port: int, page: str, headers: Mapping[str, str], timeout: float = 60) -> tuple[int, str]:
    """Return the status and the text of a page, also of an error's."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{page}", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

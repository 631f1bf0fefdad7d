"""The project's web process: `python -m tests.traced.web PORT`."""

import logging
import sys
from wsgiref.simple_server import make_server

from django.core.wsgi import get_wsgi_application

logger = logging.getLogger(__name__)


def main(port: int) -> None:
    """Answer requests, one at a time, until the process is ended."""
    with make_server("127.0.0.1", port, get_wsgi_application()) as server:
        logger.info("ready")
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))

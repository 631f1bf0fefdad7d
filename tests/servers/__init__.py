"""Real servers for the tests: each starts on a free loopback port in a folder of its own.

`PostgreSQL`, `MariaDB`, `Redis` and `RabbitMQ` share one shape (`Server`); `Proxy` stands in
front of any of them and misbehaves on demand, and `Tap` counts what PostgreSQL is sent. Servers
that already run on this machine are never touched.
"""

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.proxy import Mode, Proxy
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.server import Server, ServerMissing
from tests.servers.wire import Heard, Tap

__all__ = [
    "Heard",
    "MariaDB",
    "Mode",
    "PostgreSQL",
    "Proxy",
    "RabbitMQ",
    "Redis",
    "Server",
    "ServerMissing",
    "Tap",
]

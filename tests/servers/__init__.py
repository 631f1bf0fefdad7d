"""Real servers for the tests: each starts on a free loopback port in a folder of its own.

`PostgreSQL`, `MariaDB`, `Redis` and `RabbitMQ` share one shape (`Server`); `Proxy` stands in
front of any of them and misbehaves on demand. Servers that already run on this machine are
never touched.
"""

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.proxy import Mode, Proxy
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.server import Server, ServerMissing

__all__ = [
    "MariaDB",
    "Mode",
    "PostgreSQL",
    "Proxy",
    "RabbitMQ",
    "Redis",
    "Server",
    "ServerMissing",
]

"""RabbitMQ in a temporary folder, with an Erlang port mapper of its own.

RabbitMQ starts the port mapper (epmd) as a daemon when it finds none. Here it is started first,
in the foreground and on a free port, so that it is owned and stopped like the server itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import amqp

from tests.children import Child
from tests.servers.server import Server, free_port


class RabbitMQ(Server):
    """A RabbitMQ node of its own, without plugins and without the machine's configuration."""

    name = "RabbitMQ"
    programs = ("rabbitmq-server", "epmd")
    client_module = "amqp"

    def __init__(self) -> None:
        super().__init__()
        self.mapper: Child | None = None
        self.mapper_port = free_port()
        self.distribution_port = free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @classmethod
    def find(cls, program: str) -> Path | None:
        """Prefer the real script to Debian's wrapper, which insists on a system user."""
        real = Path("/usr/lib/rabbitmq/bin") / program
        return real if real.is_file() else super().find(program)

    def prepare(self) -> None:
        """Write an empty configuration and start the port mapper."""
        (self.home / "rabbitmq.conf").touch()
        (self.home / "enabled_plugins").write_text("[].\n")
        if self.mapper is None or not self.mapper.running:
            port = str(self.mapper_port)
            self.mapper = self.spawn(
                "epmd", [self.program("epmd"), "-port", port, "-address", "127.0.0.1"]
            )

    def command(self) -> Sequence[str | Path]:
        return [self.program("rabbitmq-server")]

    def environment(self) -> Mapping[str, str]:
        """Keep every file in this folder and every port on loopback."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")
        }
        return {
            **inherited,
            "HOME": str(self.home),
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "no-environment-file"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "no-advanced-configuration"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.home / "generated"),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.home / "rabbitmq.pid"),
            # The start script then becomes the Erlang machine instead of waiting for it, so
            # that the process we signal is the server.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def limit_disk(self, free: str) -> None:
        """Let the node take no message while its disk has less free than this, such as `1MB`."""
        node = self.environment()["RABBITMQ_NODENAME"]
        control = self.program("rabbitmqctl")
        self.run("rabbitmqctl", [control, "--node", node, "set_disk_free_limit", free])

    def stop(self) -> None:
        """End the node, then the port mapper, which other nodes do not share."""
        super().stop()
        self.stop_mapper()

    def kill(self) -> None:
        """Kill the node and the port mapper."""
        super().kill()
        self.stop_mapper()

    def stop_mapper(self) -> None:
        """End the port mapper; it keeps nothing that needs an orderly end."""
        if self.mapper is not None:
            self.mapper.kill()
            self.mapper = None

    def connect(self) -> amqp.Connection:
        """Return a new client connection, opened by entering it."""
        return amqp.Connection(
            f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=5, write_timeout=5
        )

    def ask(self) -> None:
        with self.connect() as connection:
            connection.channel()

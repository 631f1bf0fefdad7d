"""Settings of a project whose relay does not wait for RabbitMQ's word: what is lost, is lost."""

from tests.settings import *  # noqa: F403 - the servers of the run

CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": False}

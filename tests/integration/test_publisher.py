"""The relay's publisher: the broker's word counts, and silence is no word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery

from tasks_app.broker import BrokerDown, Publisher
from tests.servers import Mode, Proxy
from tests.testapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds after which a publisher that is still waiting waits for ever.
PATIENCE = 60

URLS = {"redis_server": "redis://127.0.0.1:{}/0", "rabbitmq": "amqp://guest:guest@127.0.0.1:{}//"}


@pytest.fixture(params=URLS)
def proxy(request):
    """A proxy in front of a real broker, and an app that knows only the proxy."""
    server = request.getfixturevalue(request.param)
    with Proxy(server.port) as proxy:
        url = URLS[request.param].format(proxy.port)
        proxy.app = Celery("behind", broker=url, set_as_current=False)
        yield proxy


@pytest.mark.parametrize("mode", [Mode.BLACKHOLE, Mode.DROP_REPLY, Mode.CUT], ids=str)
def test_a_broker_that_says_nothing_is_down_in_bounded_time(mode, proxy):
    """A link that dies after it was opened ends in an error, on RabbitMQ for want of a confirm."""
    outcome = add.enqueue(1, 2)
    with Publisher(proxy.app) as publisher, ThreadPoolExecutor(1) as thread:
        assert publisher.ring([outcome]) == 1
        proxy.set(mode)
        ringing = thread.submit(publisher.ring, [outcome])
        with pytest.raises(BrokerDown):
            ringing.result(PATIENCE)
        proxy.set(Mode.PASS)
        assert publisher.ring([outcome]) == 1

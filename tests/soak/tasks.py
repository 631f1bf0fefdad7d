"""The soak's tasks; see `helpers` for what they do and `verdict` for what must come of each."""

from __future__ import annotations

from tasks_app import RetryPolicy, task
from tests.soak import helpers
from tests.soak.members import PROBES
from tests.soak.verdict import CHILDREN, child_key

#: More attempts than the helper needs: none may be used up by a fault.
SOON = RetryPolicy(max_attempts=3, initial=0.2)

effect = task(helpers.take_effect, name="soak.effect")
keyed = task(helpers.take_effect, name="soak.keyed", idempotency_key="soak:{key}")
slow = task(helpers.take_effect_slowly, name="soak.slow")
external = task(helpers.call_provider, name="soak.external", atomic=False)
flaky = task(helpers.fail_twice, name="soak.flaky", retry=SOON)
asking = task(helpers.ask_again, name="soak.asking", retry=SOON)
snoozing = task(helpers.come_back, name="soak.snoozing")
fatal_once = task(helpers.die_once, name="soak.fatal_once")
poison = task(helpers.die_always, name="soak.poison")
watching = task(helpers.watch, name="soak.watching")
#: In a queue of its own: it is to tell when work goes on, not how much waits.
probe = task(helpers.take_effect, name="soak.probe", queue=PROBES)


@task(name="soak.parent")
def parent(key: str) -> None:
    """Enqueue children in the transaction of an effect."""
    for number in range(CHILDREN):
        effect.enqueue(child_key(key, number))
    helpers.take_effect(key)

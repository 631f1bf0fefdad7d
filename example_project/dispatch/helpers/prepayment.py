"""Money: the fuel of a flight is paid before it leaves.

Two effects, two guarantees. The charge at the provider is at-least-once with a stable key, which
the provider answers with the same charge however often it is asked. The ledger row is
exactly-once, because it commits together with the outcome. Nothing else prevents a second row.
"""

import json
from decimal import Decimal

from django.conf import settings

from example_project.dispatch.helpers import outgoing
from example_project.dispatch.models import Flight, LedgerEntry
from tasks_app import current


def prepay_fuel(flight_id: int) -> LedgerEntry:
    """Charge the fuel of a flight and book the charge; run it in one transaction.

    A crash after the provider's answer costs a second call with the same key, never a second
    charge. On SQLite the transaction holds the only write lock during the call, which is why the
    call is bounded to a second.

    Raises:
        Unreachable, Refused: No charge is known to have been made; try again with the same key.
    """
    flight = Flight.objects.get(pk=flight_id)
    key = current.idempotency_key or f"prepay:{flight_id}"
    charge = outgoing.call(
        "POST",
        f"{settings.DISPATCH['PAYMENTS_URL']}/charges",
        body=json.dumps({"flight": flight.number, "amount": str(flight.fuel_price)}).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
    ).json()
    return LedgerEntry.objects.create(
        flight=flight,
        idempotency_key=key,
        charge=charge["id"],
        amount=Decimal(charge["amount"]),
    )

"""The outside world of the demo: mail server, weather, payments and webhook receivers.

One process on free loopback ports, which it writes to ``services.json``. Its faults are chosen by
a seed, the caller and the number of the call, so a run can be repeated. Each service keeps a
journal of what it saw; that is the evidence against which the desk's own tables are compared.
"""

import argparse
import asyncio
import contextlib
import hashlib
import http.server
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from email import message_from_bytes, policy
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiosmtpd.smtp import SMTP, Envelope, Session

from example_project.dispatch.helpers import signatures
from example_project.journal import Journal

#: How often each fault happens, of all calls of its kind.
FAULTS = {
    "mail": {"busy": 0.03},
    "weather": {"error": 0.08, "hang": 0.01, "limit": 0.04},
    "payment": {"error before": 0.02, "error after": 0.03},
    "webhook": {"error before": 0.03, "error after": 0.03},
}
#: Seconds that a hanging answer takes: longer than the desk waits.
HANG = 3.0


class Mischief:
    """Decides which call goes wrong, and how; the same seed decides the same again."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def choose(self, kind: str, caller: str) -> str | None:
        """Return the fault of this caller's next call of a kind, or None."""
        with self._lock:
            self._calls[kind, caller] += 1
            number = self._calls[kind, caller]
        draw = random.Random(f"{self._seed}/{kind}/{caller}/{number}").random()
        for fault, rate in FAULTS[kind].items():
            draw -= rate
            if draw < 0:
                return fault
        return None


class Mailbox:
    """Takes every mail that SMTP brings, and files copies with one Message-ID as one letter."""

    def __init__(self, data: Path, mischief: Mischief) -> None:
        self._folder = data / "mailbox"
        self._folder.mkdir(exist_ok=True)
        self._journal = Journal(data / "mail.jsonl")
        self._mischief = mischief

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """File one mail, or put its sender off."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = message_from_bytes(content, policy=policy.default)
        message_id = str(message["Message-ID"])
        if self._mischief.choose("mail", message_id):
            return "451 The mailbox is busy, try again later"
        path = self._folder / f"{hashlib.sha256(message_id.encode()).hexdigest()[:24]}.eml"
        is_new = not path.exists()
        if is_new:
            path.write_bytes(content)
        self._journal.append(
            {
                "message_id": message_id,
                "to": str(message["To"]),
                "subject": str(message["Subject"]),
                "file": path.name,
                "filed": is_new,
                "at": time.time(),
            }
        )
        return "250 Filed" if is_new else "250 Known already"


class Provider:
    """A payment provider: one key, one charge, however often it is asked."""

    def __init__(self, data: Path) -> None:
        self._journal = Journal(data / "payments.jsonl")
        self._charges = {entry["key"]: entry for entry in self._journal if entry["is_new"]}
        self._lock = threading.Lock()

    def charge(self, key: str, flight: str, amount: str) -> dict[str, Any]:
        """Charge once for a key and return that charge, now and every later time."""
        with self._lock:
            known = self._charges.get(key)
            charge = known or {"key": key, "flight": flight, "amount": amount}
            charge = {**charge, "id": f"ch_{hashlib.sha256(key.encode()).hexdigest()[:12]}"}
            self._charges[key] = charge
            self._journal.append({**charge, "is_new": known is None, "at": time.time()})
        return charge


class World(http.server.ThreadingHTTPServer):
    """The HTTP services and what they share."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, data: Path, mischief: Mischief, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mischief = mischief
        self.secret = secret
        self.provider = Provider(data)
        self.events = Journal(data / "webhooks.jsonl")
        self.weather = Journal(data / "weather.jsonl")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server: World
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Tell the weather: ``/weather/<icao>``."""
        match urlsplit(self.path).path.split("/"):
            case ["", "weather", icao]:
                self._weather(icao)
            case _:
                self._answer(404)

    def do_POST(self) -> None:
        """Take a payment, ``/payments/charges``, or an event, ``/webhooks/<subscriber>``."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match urlsplit(self.path).path.split("/"):
            case ["", "payments", "charges"]:
                self._payment(body)
            case ["", "webhooks", subscriber]:
                self._webhook(subscriber, body)
            case _:
                self._answer(404)

    def _weather(self, icao: str) -> None:
        fault = self.server.mischief.choose("weather", icao)
        self.server.weather.append({"airport": icao, "fault": fault, "at": time.time()})
        if fault == "error":
            return self._answer(500)
        if fault == "limit":
            return self._answer(429, headers={"Retry-After": "1"})
        if fault == "hang":
            time.sleep(HANG)
        sky = random.Random(icao)
        weather = {"temperature_c": sky.randint(-30, 42), "wind_kt": sky.randint(0, 45)}
        return self._answer(200, {"airport": icao, **weather})

    def _payment(self, body: bytes) -> None:
        key, order = self.headers.get("Idempotency-Key"), json.loads(body)
        if not key:
            return self._answer(400, {"error": "Idempotency-Key is missing"})
        fault = self.server.mischief.choose("payment", key)
        if fault == "error before":
            return self._answer(500)
        charge = self.server.provider.charge(key, order["flight"], order["amount"])
        if fault == "error after":
            return self._answer(500)
        if charge["amount"] != order["amount"]:
            return self._answer(409, {"error": "this key was used for another amount"})
        return self._answer(200, {"id": charge["id"], "amount": charge["amount"]})

    def _webhook(self, subscriber: str, body: bytes) -> None:
        names = (signatures.ID, signatures.TIMESTAMP, signatures.SIGNATURE)
        received = {name: self.headers.get(name, "") for name in names}
        try:
            event_id = signatures.verify(self.server.secret, received, body, time.time())
        except signatures.BadSignature as error:
            self.server.events.append({"subscriber": subscriber, "refused": str(error)})
            return self._answer(401, {"error": str(error)})
        fault = self.server.mischief.choose("webhook", f"{subscriber}/{event_id}")
        if fault == "error before":
            return self._answer(503)
        self.server.events.append({"subscriber": subscriber, "id": event_id, "at": time.time()})
        return self._answer(500 if fault == "error after" else HTTPStatus.NO_CONTENT)

    def _answer(
        self,
        status: int,
        content: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        # A caller that gave up waiting has closed the line.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the journals hold what happened."""


async def serve(data: Path, seed: int, secret: str) -> None:
    """Run all services until SIGTERM or SIGINT, and announce their ports."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    mischief = Mischief(seed)
    mailbox = Mailbox(data, mischief)
    mail_server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="dispatch.example"), "127.0.0.1", 0
    )
    world = World(data, mischief, secret)
    threading.Thread(target=world.serve_forever, daemon=True).start()
    ports = {"smtp": mail_server.sockets[0].getsockname()[1], "http": world.server_port}
    draft = data / "services.json.part"
    draft.write_text(json.dumps(ports), encoding="utf-8")
    draft.replace(data / "services.json")
    await stop.wait()
    mail_server.close()
    world.shutdown()


def main() -> None:
    """Run the services for one data folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for journals and mailbox")
    parser.add_argument("--seed", type=int, default=0, help="decides which calls go wrong")
    options = parser.parse_args()
    asyncio.run(serve(options.data, options.seed, os.environ["DISPATCH_WEBHOOK_SECRET"]))


if __name__ == "__main__":
    main()

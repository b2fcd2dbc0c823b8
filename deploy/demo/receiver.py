"""The demo's other side, an on-call desk and a bank's notification service: takes webhooks and keeps what they say.

    python -m deploy.demo.receiver FILE

Every start takes a free port of loopback and a new secret for each channel, and writes both where `serving.alerts`
looks for them: files of the keys folder that only their owner reads. They go when the receiver goes. What is not
signed, old or sent to another channel is refused; what came before is thanked for and not kept again. FILE gets a line
of JSON for each message. It holds links and codes of customers, so nobody else may read it.
"""

import argparse
import hashlib
import hmac
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lakehouse import jobs
from lakehouse import settings as conf
from lakehouse.keys import write_private

ONCALL, CUSTOMERS = "demo-oncall", "demo-customers"
CHANNELS = (ONCALL, CUSTOMERS)
OLDEST_S = 300
"""A request that was signed longer ago, or so far ahead, is refused: somebody may send again what he has read."""
MOST_BYTES = 1 << 20
TIMEOUT_S = 10
"""For a sender that does not go on; it sits on a thread."""


def target_files(folder: Path) -> dict[str, Path]:
    """Of each channel, the file of the keys folder with its URL and secret."""
    return {name: folder / f"alert-{name}.target" for name in CHANNELS}


def refusal(secret: str, stamp: str, signature: str, body: bytes, now_s: float) -> str | None:
    """Why a message is not believed; None where it is. What is signed is said in serving/README.md."""
    if not (stamp.isascii() and stamp.isdigit()) or abs(int(stamp) - now_s) > OLDEST_S:
        return "no timestamp, or an old one"
    expected = "v1=" + hmac.digest(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hex()
    return (
        None if hmac.compare_digest(expected.encode(), signature.encode()) else "not signed with this channel's secret"
    )


def kept(file: Path) -> list[dict[str, Any]]:
    """The messages of a file, in the order in which they came; none where there is no file yet."""
    # What stands behind the last end of a line is still being written.
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


class Inbox:
    """Messages in a file, each once by its id."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._ids = {one["id"] for one in kept(file)}

    def keep(self, message: Mapping[str, Any]) -> bool:
        """Whether it is new; then it is in the file."""
        with self._lock:
            if message["id"] in self._ids:
                return False
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(message) + "\n")
            self._ids.add(message["id"])
            return True


class Receiver(ThreadingHTTPServer):
    """Listens on a free port of loopback; every channel has a path and a secret of its own."""

    daemon_threads = True

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.inbox = inbox
        self.secrets = {f"/{name}": secrets.token_urlsafe(32) for name in CHANNELS}

    def targets(self) -> dict[str, str]:
        """Of each channel what `serving.alerts` has to know."""
        return {name: f"http://127.0.0.1:{self.server_port}/{name} {self.secrets[f'/{name}']}" for name in CHANNELS}


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = TIMEOUT_S

    def do_POST(self) -> None:
        """Take a message."""
        secret, length = self.server.secrets.get(self.path), self.headers.get("Content-Length", "")
        if secret is None or not (length.isascii() and length.isdigit()) or int(length) > MOST_BYTES:
            self._answer(HTTPStatus.NOT_FOUND if secret is None else HTTPStatus.BAD_REQUEST)
            return
        body = self.rfile.read(int(length))
        stamp, signature = (self.headers.get(f"X-Fraudlake-{name}", "") for name in ("Timestamp", "Signature"))
        why = refusal(secret, stamp, signature, body, time.time())
        if why is not None:
            self.log_message("refused: %s", why)
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        # Whoever signed it is one of us: it is JSON with an id.
        self.server.inbox.keep({**json.loads(body), "channel": self.path[1:]})
        self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.end_headers()


def main(argv: Sequence[str]) -> int:
    """Receive until asked to stop."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.receiver", description=__doc__)
    parser.add_argument("file", type=Path, help="gets the messages")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def work() -> None:
        files = target_files(conf.resolve(conf.load().keys.folder))
        with Receiver(Inbox(given.file)) as server:
            try:
                for name, target in server.targets().items():
                    write_private(files[name], target.encode())
                server.serve_forever()
            finally:
                for file in files.values():
                    file.unlink(missing_ok=True)

    return jobs.guarded(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

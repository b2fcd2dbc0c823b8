"""Alerts for tests: settings of a test's own, decisions, a receiver of webhooks and one of mail."""

import json
import socketserver
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from lakehouse.alert_settings import Alerts
from serving.alerts.matched import alerts
from tests.lakehouse.records import T0, record

SECRET = "k" * 32
RULE = {"name": "declines", "outcomes": ["decline"], "channels": ["ops"]}
OPS, PAGER = {"name": "ops", "kind": "webhook"}, {"name": "pager", "kind": "webhook"}


def with_alerts(settings, **changes):
    """Settings with these settings of alerts; local receivers may be reached."""
    given = {"rules": [RULE], "channels": [OPS, PAGER], "allow_private": ["127.0.0.0/8"], "group_s": 0, **changes}
    given["verification"] = {**settings.alerts.verification.model_dump(), **given.get("verification", {})}
    return settings.model_copy(update={"alerts": Alerts(**{**settings.alerts.model_dump(), **given})})


def decision(n, **changes):
    """A declined decision, a second after the one before."""
    name = f"decision-{n}"
    return record(
        "decision",
        **{
            "decision_id": name,
            "transaction_id": f"t{n}",
            "offset": n,
            "decided_at": T0 + 1000 * n,
            "outcome": "decline",
        }
        | {"reason_codes": ["CARD_TESTING"], "amount_base_minor": 1999, **changes},
    )


def alerts_of(settings, *decisions):
    """The alerts of some decisions."""
    return [alert for one in decisions for alert in alerts(settings.alerts.rules, one)]


class Receiver(BaseHTTPRequestHandler):
    """Answers as its server was told to, and keeps what it was sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(SimpleNamespace(path=self.path, headers=dict(self.headers), body=body))
        answer = self.server.answers.get(self.path, 200)
        if answer == "hang":
            self.server.stop.wait(30)
        elif answer == "drip":
            while not self.server.stop.wait(0.05):
                self.wfile.write(b"H")
        elif answer == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n")
        elif answer == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not self.server.stop.is_set():
                self.wfile.write(b"x" * 65536)
        else:
            self.send_response(answer)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

    def handle(self):
        with suppress(OSError):
            super().handle()

    def log_message(self, *_):
        pass


@contextmanager
def receiving(**answers):
    """A receiver on loopback: `got` is what it was sent; it answers `/name` with `answers[name]`, else 200."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads, server.block_on_close = True, False
    server.got, server.stop = [], threading.Event()
    server.answers = {f"/{name}": answer for name, answer in answers.items()}
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.bodies = lambda: [json.loads(one.body) for one in server.got]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as one sender without TLS and login needs."""

    def handle(self):
        self.say("220 here")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.say("354 go on")
                mail = []
                while (line := self.rfile.readline()) != b".\r\n":
                    mail.append(line)
                self.server.got.append(b"".join(mail).decode())
            self.say("221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                return

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")


@contextmanager
def receiving_mail():
    """A mail server on loopback; `got` is what it was sent."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.got, server.port = [], server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def in_the_way(folder):
    """A trail that cannot be written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.rename(folder.with_suffix(".aside")) if folder.exists() else None
    folder.write_text("in the way")
    try:
        yield
    finally:
        folder.unlink()
        if aside is not None:
            aside.rename(folder)

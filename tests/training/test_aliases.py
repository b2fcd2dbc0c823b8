"""A registry that has no champion is told from one that cannot say."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lakehouse.errors import RegistryUnavailable
from training.aliases import Aliases


class Broken(BaseHTTPRequestHandler):
    """Says that it is there, and fails whenever it is asked for a model."""

    def _say(self) -> None:
        body = b"{}" if self.path.endswith("experiments/search") else b'{"error_code": "INTERNAL_ERROR"}'
        self.send_response(200 if body == b"{}" else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._say()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def at(settings, uri, name="nobody"):
    return settings.model_copy(
        update={"models": settings.models.model_copy(update={"registry_uri": uri, "name": name})}
    )


def test_a_registry_that_fails_is_not_one_without_a_champion(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering() as uri, pytest.raises(RegistryUnavailable, match="does not answer"):
        Aliases(at(settings, uri)).champion()


def test_what_is_gone_is_neither_tagged_nor_pointed_to(settings, mlflow_server):
    aliases = Aliases(at(settings, settings.models.registry_uri))
    aliases.make_champion("ab" * 32)
    aliases.tag("7", "refused", "why")
    aliases.tag("7", "refused", None)
    assert aliases.champion() is None

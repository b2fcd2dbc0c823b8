"""A small schema registry over HTTP that answers as Confluent's does, and fails when it is told to."""

import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lakehouse.registry import fingerprint, incompatible
from lakehouse.settings import Settings

Failure = int | str
"""A status to answer with, or: `half_open` (never answers), `drip` (a byte now and then), `garbage` (no JSON)."""


Configured = Callable[..., Settings]
"""Settings in which this registry is the one, with some of them changed."""

ID = {"name": "thing_id", "type": "string"}
MORE = {"name": "more", "type": ["null", "int"], "default": None}


def schema(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "thing", "fields": list(fields)}


class Refusal(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Server:
    """The registry's content, what it was asked, and how it is to fail."""

    subjects: dict[str, dict[int, int]] = field(default_factory=dict)
    """Subject -> version -> id."""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    """Taken one a request; the last one stays when `for_ever`."""
    for_ever: bool = False
    wanted: str | None = None
    """The Authorization header that it wants."""
    stopping: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def failure(self) -> Failure | None:
        if not self.failures:
            return None
        return self.failures[0] if self.for_ever else self.failures.pop(0)

    def put(self, subject: str, schema: dict[str, Any], version: int | None = None, id_: int | None = None) -> int:
        """Add a version, as if somebody had registered it."""
        versions = self.subjects.setdefault(subject, {})
        print_ = fingerprint(schema)
        same = [known for known, held in self.schemas.items() if fingerprint(held) == print_]
        chosen = id_ if id_ is not None else same[0] if same else max(self.schemas, default=0) + 1
        self.schemas[chosen] = schema
        versions[version if version is not None else max(versions, default=0) + 1] = chosen
        return chosen

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        match (method, *[urllib.parse.unquote(part) for part in path.split("/") if part]):
            case ("GET", "schemas", "ids", id_):
                return {"schema": json.dumps(self._schema(int(id_)))}
            case ("GET", "subjects", subject, "versions"):
                return sorted(self._versions(subject))
            case ("GET", "subjects", subject, "versions", version):
                return self._entry(subject, int(version))
            case ("POST", "subjects", subject):
                print_ = fingerprint(self._valid(body))
                for version, id_ in self._versions(subject).items():
                    if fingerprint(self.schemas[id_]) == print_:
                        return self._entry(subject, version)
                raise Refusal(404, 40403, "Schema not found")
            case ("POST", "compatibility", "subjects", subject, "versions", "latest"):
                reasons = self._reasons(subject, self._valid(body))
                return {"is_compatible": not reasons, "messages": reasons}
            case ("POST", "subjects", subject, "versions"):
                return {"id": self._registered(subject, body)}
            case ("PUT", "mode", subject):
                self.modes[subject] = body["mode"]
                return {"mode": body["mode"]}
        raise Refusal(404, 404, "HTTP 404 Not Found")

    def _schema(self, id_: int) -> dict[str, Any]:
        if id_ not in self.schemas:
            raise Refusal(404, 40403, f"Schema {id_} not found")
        return self.schemas[id_]

    def _versions(self, subject: str) -> dict[int, int]:
        if subject not in self.subjects:
            raise Refusal(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _entry(self, subject: str, version: int) -> dict[str, Any]:
        versions = self._versions(subject)
        if version not in versions:
            raise Refusal(404, 40402, f"Version {version} not found.")
        id_ = versions[version]
        return {"subject": subject, "version": version, "id": id_, "schema": json.dumps(self.schemas[id_])}

    def _valid(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            schema = json.loads(body["schema"])
            fingerprint(schema)
        except Exception:
            raise Refusal(422, 42201, "Invalid schema") from None
        return dict(schema)

    def _reasons(self, subject: str, schema: dict[str, Any]) -> list[str]:
        versions = self._versions(subject)
        return incompatible(schema, self.schemas[versions[max(versions)]])

    def _registered(self, subject: str, body: dict[str, Any]) -> int:
        schema, importing = self._valid(body), self.modes.get(subject) == "IMPORT"
        if ("id" in body) != importing:
            raise Refusal(422, 42205, f"Subject {subject} is not in import mode")
        if importing:
            held = self.schemas.get(body["id"])
            if held is not None and fingerprint(held) != fingerprint(schema):
                raise Refusal(422, 42207, f"Overwrite new schema with id {body['id']} is not permitted.")
            return self.put(subject, schema, body["version"], body["id"])
        if subject in self.subjects:
            for id_ in self.subjects[subject].values():
                if fingerprint(self.schemas[id_]) == fingerprint(schema):
                    return id_
            if reasons := self._reasons(subject, schema):
                raise Refusal(409, 409, f"Schema being registered is incompatible: {reasons}")
        return self.put(subject, schema)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path = self.path.split("?")[0]
            server.asked.append(f"{self.command} {path}")
            server.authorizations.append(self.headers.get("Authorization"))
            match server.failure():
                case "half_open":
                    server.stopping.wait(30)
                    self.close_connection = True
                    return
                case "drip":
                    self._drip()
                    return
                case "garbage":
                    self._say(200, b"<html>")
                    return
                case int(status):
                    self._say(status, json.dumps({"error_code": status, "message": "told to fail"}).encode())
                    return
            if server.wanted is not None and self.headers.get("Authorization") != server.wanted:
                self._say(401, b'{"error_code": 401, "message": "Unauthorized"}')
                return
            try:
                status, content = 200, server.answer(self.command, path, body)
            except Refusal as refusal:
                status, content = refusal.status, {"error_code": refusal.code, "message": str(refusal)}
            self._say(status, json.dumps(content).encode())

        def _say(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _drip(self) -> None:
            try:
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n":
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if server.stopping.wait(0.2):
                        return
            except OSError:
                pass
            self.close_connection = True

        do_GET = do_POST = do_PUT = _serve  # noqa: N815

    return Handler


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A registry on a free port of loopback."""
    server = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()

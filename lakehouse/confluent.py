"""A client of a schema registry that speaks Confluent's REST interface: schemas by id, ids by subject, new versions.

What an id means never changes, so it is asked once. A request has one deadline from the first byte out to the last byte
in, however slowly the answer drips; what may pass by itself is tried again. Credentials come from files or the
environment, are never part of the address, and never travel unencrypted beyond loopback.
"""

import base64
import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.errors import SchemaRefused, SchemaRegistryUnavailable, SettingsError
from lakehouse.registry import fingerprint, forbidden_fields
from lakehouse.settings import Schemas, resolve

PASSWORD, TOKEN = "FRAUDLAKE_SCHEMAS_PASSWORD", "FRAUDLAKE_SCHEMAS_TOKEN"
_TYPE = "application/vnd.schemaregistry.v1+json"
_FIRST_WAIT_S = 0.2
_MOST_BYTES = 8 << 20
"""An answer is a schema or a list of numbers."""
_UNKNOWN = (40401, 40402, 40403)
"""Confluent's error codes: subject, version or schema not found."""


@dataclass(frozen=True)
class Entry:
    """One version of a subject."""

    subject: str
    version: int
    id: int
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class _Answer:
    status: int
    content: Any

    @property
    def code(self) -> int:
        return int(self.content.get("error_code", 0)) if isinstance(self.content, dict) else 0

    @property
    def message(self) -> str:
        told = self.content.get("message", "") if isinstance(self.content, dict) else ""
        return " ".join(str(told).split())[:300]


def _secret(variable: str, path: Path | None) -> str | None:
    if variable in os.environ:
        return os.environ[variable]
    if path is None:
        return None
    try:
        return resolve(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}).", f"Or set {variable}.") from None


def _authorization(settings: Schemas) -> str | None:
    token, password = _secret(TOKEN, settings.token_file), _secret(PASSWORD, settings.password_file)
    if token is not None:
        return f"Bearer {token}"
    if settings.user is None:
        return None
    if password is None:
        raise SettingsError("schemas.user has no password.", f"Set schemas.password_file or {PASSWORD}.")
    return "Basic " + base64.b64encode(f"{settings.user}:{password}".encode()).decode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SchemaRegistry:
    """One registry, as the settings name it."""

    def __init__(self, settings: Schemas) -> None:
        self._settings = settings
        self._where = urllib.parse.urlsplit(settings.url)
        if self._where.scheme not in ("http", "https") or not self._where.hostname:
            raise SettingsError("schemas.url is no http or https address.", "For example https://registry:8081")
        if self._where.username is not None or self._where.password is not None:
            raise SettingsError("schemas.url holds credentials.", f"Set schemas.user and {PASSWORD}, or {TOKEN}.")
        self._authorization = _authorization(settings)
        if self._authorization and self._where.scheme == "http" and not _is_loopback(self._where.hostname):
            raise SettingsError("Credentials would travel unencrypted to schemas.url.", "Use https.")
        self._tls = self._context() if self._where.scheme == "https" else None
        self._by_id: dict[int, Mapping[str, Any]] = {}

    def _context(self) -> ssl.SSLContext:
        ca_file = self._settings.ca_file
        try:
            made = ssl.create_default_context(cafile=str(resolve(ca_file)) if ca_file else None)
        except OSError as error:
            raise SettingsError(f"schemas.ca_file {ca_file} cannot be read ({type(error).__name__}).") from None
        if not self._settings.verify_tls:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    def schema(self, schema_id: int) -> Mapping[str, Any] | None:
        """The schema of an id; None when the registry has no such id."""
        if schema_id not in self._by_id:
            answer = self._asked("GET", f"/schemas/ids/{schema_id}")
            if answer.code in _UNKNOWN:
                return None
            self._by_id[schema_id] = self._parsed(answer.content)
        return self._by_id[schema_id]

    def versions(self, subject: str) -> list[int]:
        """The versions of a subject; none when the registry has no such subject."""
        answer = self._asked("GET", f"/subjects/{_quoted(subject)}/versions")
        return [] if answer.code in _UNKNOWN else sorted(int(version) for version in answer.content)

    def entry(self, subject: str, version: int) -> Entry | None:
        """A version of a subject; None when there is none."""
        return self._entry(self._asked("GET", f"/subjects/{_quoted(subject)}/versions/{version}"))

    def entries(self, subject: str) -> list[Entry]:
        """Every version of a subject, in order."""
        found = (self.entry(subject, version) for version in self.versions(subject))
        return [entry for entry in found if entry is not None]

    def lookup(self, subject: str, schema: Mapping[str, Any]) -> Entry | None:
        """The version under which a subject has this schema; None when it does not have it."""
        return self._entry(self._asked("POST", f"/subjects/{_quoted(subject)}", {"schema": json.dumps(schema)}))

    def incompatible(self, subject: str, schema: Mapping[str, Any]) -> list[str]:
        """Why the registry would not take a schema as the next version; empty when it would, and for a new subject."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest?verbose=true"
        answer = self._asked("POST", path, {"schema": json.dumps(schema)})
        if answer.code in _UNKNOWN or answer.content.get("is_compatible") is True:
            return []
        return [" ".join(str(m).split())[:300] for m in answer.content.get("messages") or ["it does not say why"]]

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """The id of a schema that is the next version of a subject, or is one already; SchemaRefused says why not."""
        if card_data := forbidden_fields(schema):
            raise SchemaRefused(f"{subject}: {', '.join(card_data)} may never be stored.", "Remove the field.")
        if reasons := self.incompatible(subject, schema):
            raise SchemaRefused(f"The schema registry refuses the next version of {subject}: {'; '.join(reasons)}.")
        answer = self._asked("POST", f"/subjects/{_quoted(subject)}/versions", {"schema": json.dumps(schema)})
        return int(answer.content["id"])

    def import_ids(self, entries: list[Entry]) -> list[Entry]:
        """Put versions with the ids they have into the registry; those that were not there. SchemaRefused when taken.

        A subject is in mode IMPORT only while something is put into it.
        """
        added = []
        for entry in sorted(entries, key=lambda e: (e.subject, e.version)):
            held = self.entry(entry.subject, entry.version)
            if held is None:
                self._import(entry)
                added.append(entry)
            elif held.id != entry.id or fingerprint(held.schema) != fingerprint(entry.schema):
                raise SchemaRefused(
                    f"The schema registry has another {entry.subject} version {entry.version}, with id {held.id}.",
                    "Choose another schemas.subject_prefix, or a registry of our own.",
                )
        return added

    def _import(self, entry: Entry) -> None:
        mode = f"/mode/{_quoted(entry.subject)}?force=true"
        self._asked("PUT", mode, {"mode": "IMPORT"})
        try:
            body = {"schema": json.dumps(entry.schema), "id": entry.id, "version": entry.version}
            self._asked("POST", f"/subjects/{_quoted(entry.subject)}/versions", body)
        finally:
            self._asked("PUT", mode, {"mode": "READWRITE"})

    def _entry(self, answer: _Answer) -> Entry | None:
        if answer.code in _UNKNOWN:
            return None
        content = answer.content
        return Entry(content["subject"], int(content["version"]), int(content["id"]), self._parsed(content))

    def _parsed(self, content: Any) -> Mapping[str, Any]:
        try:
            found = json.loads(content["schema"])
        except (KeyError, TypeError, ValueError):
            found = None
        if not isinstance(found, dict) or content.get("schemaType", "AVRO") != "AVRO":
            raise SchemaRefused(f"The schema registry at {self._settings.url} gave something that is no Avro record.")
        return found

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> _Answer:
        """The answer to a request: 200, or an error code that says that something is not there."""
        wait_s = _FIRST_WAIT_S
        for attempt in range(1, self._settings.attempts + 1):
            try:
                answer = self._once(method, path, body)
                if answer.status < 500 and answer.status != 429:
                    return self._understood(answer)
                why = f"it answers {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise SchemaRefused(
                        f"The schema registry at {self._settings.url} has a certificate that does not verify: "
                        f"{error.verify_message}.",
                        "Name its authority in schemas.ca_file.",
                    ) from None
                why = type(error).__name__
            if attempt < self._settings.attempts:
                time.sleep(wait_s)
                wait_s *= 2
        raise SchemaRegistryUnavailable(
            f"The schema registry at {self._settings.url} does not answer ({why}).",
            "Look at schemas.url; with schemas.registry: files nobody asks it.",
        )

    def _understood(self, answer: _Answer) -> _Answer:
        if answer.status == 200 or (answer.status == 404 and answer.code in _UNKNOWN):
            return answer
        where = f"The schema registry at {self._settings.url}"
        if answer.status in (401, 403):
            raise SettingsError(f"{where} refuses us ({answer.status}).", "See schemas.user and schemas.token_file.")
        if answer.status in (409, 422):
            raise SchemaRefused(f"{where} refuses the schema ({answer.status}): {answer.message}")
        raise SettingsError(f"{where} answers {answer.status}: is it one?", "Look at schemas.url.")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Answer:
        host, timeout_s = self._where.hostname or "", float(self._settings.timeout_s)
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, self._where.port, timeout=timeout_s)
        else:
            connection = http.client.HTTPSConnection(host, self._where.port, timeout=timeout_s, context=self._tls)
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        if self._authorization:
            headers["Authorization"] = self._authorization
        began = time.monotonic()
        # The socket's own timeout starts anew with every byte; this one does not.
        deadline = threading.Timer(timeout_s, lambda: _shut(connection))
        deadline.daemon = True
        deadline.start()
        try:
            connection.request(method, self._where.path.rstrip("/") + path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            raw = answer.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException):
            if time.monotonic() - began >= timeout_s:
                raise TimeoutError from None
            raise
        finally:
            deadline.cancel()
            connection.close()
        try:
            content = json.loads(raw)
        except ValueError:
            content = None
        if answer.status == 200 and content is None:
            raise http.client.HTTPException("no JSON")
        return _Answer(answer.status, content)


def _shut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")

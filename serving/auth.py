"""Who may call: API keys with roles, known only by their digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from fastapi import Request
from fastapi.security import APIKeyHeader

from lakehouse.errors import KeysMissing
from lakehouse.keys import API_KEYS, api_key_digest
from serving.problems import Problem

HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="an API key; `make keys` creates local ones")
DECIDE, REPLAY = "decide", "replay"


@dataclass(frozen=True)
class Caller:
    """Whose key it was."""

    name: str
    roles: frozenset[str]


def callers(folder: Path) -> Mapping[str, Caller]:
    """Callers by the digest of their key; KeysMissing when there are none."""
    path = folder / API_KEYS
    if not path.exists():
        raise KeysMissing(f"There is no {path}.", "`make keys` creates local API keys; the API does not start without.")
    entries = orjson.loads(path.read_bytes())
    return {entry["sha256"]: Caller(entry["name"], frozenset(entry["roles"])) for entry in entries}


def authenticated(request: Request, key: str | None, role: str) -> Caller:
    """The caller of a request; Problem 401 without a known key, 403 without the role."""
    known: Mapping[str, Caller] = request.app.state.callers
    caller = None if key is None else known.get(api_key_digest(key))
    if caller is None:
        raise Problem(401, "No valid API key", "Send a known key in the header X-API-Key.")
    if role not in caller.roles:
        raise Problem(403, "This key may not do that", f"It needs the role `{role}`.")
    return caller

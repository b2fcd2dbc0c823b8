"""Who may call: API keys with roles, known only by their digests, each with its rate.

decide   POST /v1/decisions, and all that `read` may
replay   with decide: received_at of its own
read     decisions, cards, entities, the feed, figures, what is in force
label    POST /v1/labels
reveal   POST /v1/tokens/card, which the audit trail tells of
alerts   alerts and messages, and acknowledging them
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from fastapi import Request, WebSocket
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection

from lakehouse.errors import KeysMissing
from lakehouse.keys import API_KEYS, ROLES, api_key_digest
from serving.limits import Limits
from serving.problems import Problem

DECIDE, REPLAY, READ, LABEL, REVEAL, ALERTS = ROLES
OPEN = frozenset(
    (
        *("/health/live", "/health/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"),
        "/v1/verify/{token}",
    )
)
"""Whoever reaches the port may ask for these: they tell of the process and the interface, not of payments; but for the
customer's page, whose token is the right to see it."""
SUBPROTOCOL, KEY_PREFIX = "fraudlake.v1", "key."
"""Of a WebSocket: a browser cannot set headers, so it offers SUBPROTOCOL and KEY_PREFIX with its key behind it."""
_EXAMPLES = ("", "changeme", "change-me", "secret", "password", "test", "api-key", "your-api-key", "example", "demo")
"""Keys that stand in documents and examples everywhere; none of ours does."""


@dataclass(frozen=True)
class Caller:
    """Whose key it was."""

    name: str
    roles: frozenset[str]


def callers(folder: Path) -> Mapping[str, Caller]:
    """Callers by the digest of their key; KeysMissing when there are none, or an example's key is among them."""
    path = folder / API_KEYS
    if not path.exists():
        raise KeysMissing(f"There is no {path}.", "`make keys` creates local API keys; the API does not start without.")
    entries = orjson.loads(path.read_bytes())
    known = {entry["sha256"]: Caller(entry["name"], frozenset(entry["roles"])) for entry in entries}
    if not known:
        raise KeysMissing(f"{path} has no keys.", "`python -m lakehouse.keys api NAME --roles read` makes one.")
    for digest in map(api_key_digest, _EXAMPLES):
        if digest in known:
            raise KeysMissing(f"The key of {known[digest].name} in {path} is an example's.", "Make another one.")
    for caller in known.values():
        if unknown := sorted(caller.roles - set(ROLES)):
            raise KeysMissing(f"{caller.name} in {path} has no such role: {', '.join(unknown)}.", f"Known: {ROLES}.")
    return known


class Allowed(APIKeyHeader):
    """What a route asks of its caller: a known key that has one of some roles, within its rate.

    Every route names one, or stands in OPEN; a test looks.
    """

    def __init__(self, *roles: str) -> None:
        super().__init__(
            name="X-API-Key",
            scheme_name="APIKey",
            auto_error=False,
            description="an API key; `make keys` makes local ones",
        )
        self.roles = roles

    async def __call__(self, request: Request = None, websocket: WebSocket = None) -> Caller:  # type: ignore[assignment,override]
        """The caller; Problem 401 without a known key, 403 without a role, 429 above the key's rate."""
        connection: HTTPConnection = request or websocket
        key = connection.headers.get("x-api-key") or (None if websocket is None else _offered(websocket))
        known: Mapping[str, Caller] = connection.app.state.callers
        caller = None if key is None else known.get(api_key_digest(key))
        if caller is None:
            raise Problem(401, "No valid API key", "Send a known key in the header X-API-Key.")
        if not caller.roles.intersection(self.roles):
            needed = " or ".join(f"`{role}`" for role in self.roles)
            raise Problem(403, "This key may not do that", f"It needs the role {needed}.")
        limits: Limits = connection.app.state.limits
        await limits.take(caller.name)
        return caller


def _offered(websocket: WebSocket) -> str | None:
    """The key among the subprotocols that a browser offers."""
    offered = websocket.scope.get("subprotocols", [])
    return next((one.removeprefix(KEY_PREFIX) for one in offered if one.startswith(KEY_PREFIX)), None)

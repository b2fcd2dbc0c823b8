"""WS /v1/feed: decisions as they come."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, WebSocket

from decisions.outcome import OUTCOMES, REJECTED
from serving.auth import DECIDE, READ, SUBPROTOCOL, Allowed, Caller
from serving.feed import Feed, attend
from serving.problems import Problem

router = APIRouter()
WANTED = frozenset((*OUTCOMES, REJECTED))


@router.websocket("/v1/feed")
async def feed(
    websocket: WebSocket,
    _: Annotated[Caller, Depends(Allowed(READ, DECIDE))],
    outcome: Annotated[list[str] | None, Query()] = None,
) -> None:
    """Messages `{"decisions": [...]}` of what this replica reads from topic `decisions`; `outcome` chooses.

    The key is in the header X-API-Key, or for browsers among the subprotocols `fraudlake.v1` and `key.<API key>`; never
    in the address, which is logged.
    """
    if unknown := sorted(set(outcome or ()) - WANTED):
        raise Problem(422, "No such outcome", f"{len(unknown)} of those asked for; there are {sorted(WANTED)}.")
    clients: Feed = websocket.app.state.feed
    client = clients.join(None if outcome is None else frozenset(outcome))
    if client is None:
        raise Problem(503, "The feed is full", "As many clients listen as feed.max_clients allows.")
    try:
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
        await attend(client, websocket)
    finally:
        clients.leave(client)

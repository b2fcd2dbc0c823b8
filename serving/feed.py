"""Decisions as they come, for whoever listens: one reader of the topic, a bounded queue for every client.

A client that does not keep up is dropped, never the feed: its queue is full, it is told so (1013) if it still reads,
and its connection is gone after `GOODBYE_S` whether it reads or not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from fastapi import WebSocket, WebSocketDisconnect
from prometheus_client import Counter, Gauge
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

AT_ONCE = 100
"""Decisions of one message: whatever waits, at most so many."""
GOODBYE_S = 5.0
"""For the closing of a connection; then it is cut."""
TOO_SLOW, UNWANTED, ENDING = 1013, 1008, 1001
"""Close codes: try again later; a message that nobody asked for; the API ends."""

CLIENTS = Gauge("fraudlake_feed_clients", "Clients of the feed")
SENT = Counter("fraudlake_feed_sent", "Decisions sent to clients of the feed")
DROPPED = Counter("fraudlake_feed_dropped", "Clients of the feed that did not keep up")

FIELDS = (
    *("decision_id", "transaction_id", "event_time", "decided_at", "outcome", "risk", "score", "rung"),
    *("rejected_by", "rules_fired", "reason_codes", "lists_hit", "card_token", "customer_token", "merchant_id"),
    *("amount_base_minor", "model_digest", "topic_id", "partition", "offset"),
)
"""Of a decision, as its record names them; times in milliseconds. Nothing in the clear is on topic `decisions`."""


class Client:
    """What waits for one client; `outcomes` are those that it wants, None for all."""

    def __init__(self, outcomes: frozenset[str] | None, most: int) -> None:
        self.outcomes = outcomes
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(most)
        self.left: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def leave(self, code: int, reason: str) -> None:
        """Let it go, with a code and a reason."""
        if not self.left.done():
            self.left.set_result((code, reason))


class Feed:
    """The clients of a replica; lives on the event loop."""

    def __init__(self, most_clients: int, queue_records: int) -> None:
        self._most_clients, self._queue_records = most_clients, queue_records
        self._clients: set[Client] = set()

    def join(self, outcomes: frozenset[str] | None) -> Client | None:
        """A new client; None when there are as many as there may be."""
        if len(self._clients) >= self._most_clients:
            return None
        client = Client(outcomes, self._queue_records)
        self._clients.add(client)
        CLIENTS.set(len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self._clients.discard(client)
        CLIENTS.set(len(self._clients))

    def decided(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Hand decisions to whoever wants them; who is too far behind is let go."""
        if not self._clients:
            return
        for one in found:
            body = orjson.dumps({name: one[name] for name in FIELDS})
            for client in list(self._clients):
                if client.outcomes is not None and one["outcome"] not in client.outcomes:
                    continue
                try:
                    client.queue.put_nowait(body)
                except asyncio.QueueFull:
                    DROPPED.inc()
                    self.leave(client)
                    client.leave(TOO_SLOW, f"more than {self._queue_records} decisions behind")

    def end(self) -> None:
        """Let everybody go."""
        for client in list(self._clients):
            self.leave(client)
            client.leave(ENDING, "the API ends")


async def attend(client: Client, websocket: WebSocket) -> None:
    """Send a client what comes until it leaves, or is let go."""
    sending = asyncio.create_task(_send(client, websocket))
    receiving = asyncio.create_task(_receive(client, websocket))
    try:
        code, reason = await client.left
    finally:
        # Who does not read holds the sender up for ever.
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(GOODBYE_S):
            await websocket.close(code, reason)


async def _send(client: Client, websocket: WebSocket) -> None:
    try:
        while True:
            some = [await client.queue.get()]
            while len(some) < AT_ONCE and not client.queue.empty():
                some.append(client.queue.get_nowait())
            await websocket.send_text('{"decisions":[' + b",".join(some).decode() + "]}")
            SENT.inc(len(some))
    except (WebSocketDisconnect, RuntimeError):
        client.leave(ENDING, "the client has gone")


async def _receive(client: Client, websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        message = await websocket.receive()
        if message["type"] == "websocket.receive":
            client.leave(UNWANTED, "the feed takes no messages")
            return
    client.leave(ENDING, "the client has gone")


class Cut(WebSocketsSansIOProtocol):
    """The server's side of a WebSocket, which cuts a connection that does not end: its peer does not read."""

    async def run_asgi(self) -> None:
        """Serve the connection, and see to its end."""
        await super().run_asgi()
        self.loop.call_later(GOODBYE_S, self.transport.abort)

"""The feed: whoever reads gets every decision once and in order; who does not is let go, and nobody else notices."""

import asyncio
import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lakehouse import keys
from lakehouse import settings as conf
from serving import feed as feeds
from serving.app import create_app
from serving.feed import FIELDS
from tests.lakehouse.records import record
from tests.serving.running import listening, until

QUEUE = 50


@dataclass
class Running:
    """An app whose feed a test feeds itself, in the place of the reader of topic `decisions`."""

    app: object
    server: object
    key: str
    loop: object = None

    @property
    def port(self):
        return self.server.port

    def decided(self, *decisions):
        self.loop.call_soon_threadsafe(self.app.state.feed.decided, decisions)

    @contextmanager
    def client(self, query="", **options):
        headers = {"X-API-Key": self.key} if "subprotocols" not in options else {}
        with connect(
            f"ws://127.0.0.1:{self.port}/v1/feed{query}", additional_headers=headers, open_timeout=60, **options
        ) as client:
            yield client

    def clients(self, n):
        until(lambda: len(self.app.state.feed._clients) == n)


@pytest.fixture
def running(tmp_path):
    keys.create(tmp_path)
    base = conf.load()
    settings = base.model_copy(
        update={
            "keys": base.keys.model_copy(update={"folder": tmp_path}),
            "feed": base.feed.model_copy(update={"queue_records": QUEUE, "max_clients": 3}),
        }
    )
    app = create_app(settings)

    with listening(Remembering(app)) as server:
        one = Running(app, server, (tmp_path / "api-analyst.key").read_text())
        with one.client():
            one.loop = app.state.loop
        one.clients(0)
        yield one


class Remembering:
    """The app, which tells on what event loop it runs."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        self.app.state.loop = asyncio.get_running_loop()
        await self.app(scope, receive, send)


def decision(number, **changes):
    return record("decision", offset=number, transaction_id=f"t{number}", **changes)


def offsets(client, n):
    found = []
    while len(found) < n:
        found += [one["offset"] for one in json.loads(client.recv(timeout=60))["decisions"]]
    return found


def test_decisions_come_in_order_and_whole_to_everybody_and_by_outcome_to_who_asks(running):
    with running.client() as first, running.client("?outcome=decline&outcome=review") as second:
        running.clients(2)
        outcomes = ["approve", "decline", "review", "challenge"]
        for number in range(40):
            running.decided(decision(number, outcome=outcomes[number % 4], vector=b"\0" * 1200))
        assert offsets(first, 40) == list(range(40))
        assert offsets(second, 20) == [n for n in range(40) if n % 4 in (1, 2)]
        running.decided(decision(40, outcome="decline", score=0.75))
        (last,) = json.loads(first.recv(timeout=60))["decisions"]
        assert set(last) == set(FIELDS)
        assert (last["outcome"], last["score"], last["card_token"]) == ("decline", 0.75, "v1:card")
    running.clients(0)


def test_a_browser_gives_its_key_among_the_subprotocols_and_the_key_does_not_come_back(running):
    with running.client(subprotocols=["fraudlake.v1", f"key.{running.key}"]) as client:
        assert client.subprotocol == "fraudlake.v1"
        assert running.key not in str(client.response.headers)
        running.clients(1)
        running.decided(decision(1))
        assert offsets(client, 1) == [1]
    with pytest.raises(InvalidStatus) as refused, running.client(subprotocols=["fraudlake.v1", "key.wrong"]):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("query", "status", "title"),
    [("?outcome=declined", 422, "No such outcome"), (f"?key={'k' * 43}", None, None)],
)
def test_an_unknown_outcome_is_refused_and_a_key_in_the_address_counts_for_nothing(running, query, status, title):
    if status:
        with pytest.raises(InvalidStatus) as refused, running.client(query):
            pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["title"] == title
    else:
        address = f"ws://127.0.0.1:{running.port}/v1/feed?key={running.key}&api_key={running.key}"
        with pytest.raises(InvalidStatus) as refused, connect(address):
            pass
        assert refused.value.response.status_code == 401


def test_no_more_clients_than_may_be_and_a_place_is_free_again(running):
    with running.client(), running.client(), running.client():
        running.clients(3)
        with pytest.raises(InvalidStatus) as refused, running.client():
            pass
        assert refused.value.response.status_code == 503
    running.clients(0)
    with running.client():
        running.clients(1)


def test_a_client_that_sends_is_told_that_nobody_listens(running):
    with running.client() as client:
        client.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=60)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the feed takes no messages")


def unread(running):
    """A connection that is opened and never read from."""
    quiet = socket.create_connection(("127.0.0.1", running.port))
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    quiet.sendall(
        f"GET /v1/feed HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-API-Key: {running.key}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert quiet.recv(64).startswith(b"HTTP/1.1 101")
    return quiet


def test_a_client_that_never_reads_is_dropped_and_cut_and_the_others_lack_nothing(running, monkeypatch):
    monkeypatch.setattr(feeds, "GOODBYE_S", 0.5)
    before, number, long = feeds.DROPPED._value.get(), 0, "x" * 20_000
    with unread(running), running.client(max_size=None) as reader:
        running.clients(2)
        # As much as lies in buffers on the way; then its queue fills, and it is dropped.
        while feeds.DROPPED._value.get() == before:
            assert number < 10_000
            numbers = list(range(number, number + QUEUE // 2))
            running.decided(*(decision(n, merchant_id=long) for n in numbers))
            assert offsets(reader, len(numbers)) == numbers
            number += len(numbers)
        running.clients(1)
        until(lambda: len(running.server.server_state.connections) == 1, 10)
        running.decided(decision(number))
        assert offsets(reader, 1) == [number]


def test_a_client_that_reads_too_slowly_is_told_why_it_was_dropped(running):
    def read_on(client):
        while True:
            client.recv(timeout=60)

    with running.client() as client:
        running.clients(1)
        running.decided(*(decision(number) for number in range(QUEUE + 1)))
        with pytest.raises(ConnectionClosed) as closed:
            read_on(client)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "more than 50 decisions behind")

"""The interface as a whole: who may ask what, what a bad body is told, and what every answer carries."""

import http.client
import json
import re
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lakehouse import keys
from lakehouse import settings as conf
from lakehouse.errors import KeysMissing
from serving import openapi
from serving.app import ROUTES, create_app, described_app
from serving.auth import OPEN, Allowed, callers
from serving.guard import HEADERS
from serving.job import main
from tests.serving.running import listening


def roles_of(route):
    """The roles that a route lets in; None for one that names no rule."""
    rules = [one.call for one in route.dependant.dependencies if isinstance(one.call, Allowed)]
    return set(rules[0].roles) if len(rules) == 1 else None


OURS = [route for module in ROUTES for route in module.router.routes]
CLOSED = [route for route in OURS if route.path not in OPEN]
WANTED = {(name.lower(), value) for name, value in HEADERS.items()}
JSON = "application/json; charset=utf-8"
EVERY = list(chain.from_iterable(combinations(keys.ROLES, n) for n in (1, 2)))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Asked:
    """Asks an app that has a key for every one and two roles; nothing runs behind it."""

    port: int
    folder: Path

    def key(self, *roles):
        return (self.folder / f"api-only-{'-'.join(roles)}.key").read_text()

    def send(self, method, path, headers, body=None, chunked=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers, encode_chunked=chunked)
        got = connection.getresponse()
        answer = Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        connection.close()
        return answer

    def route(self, route, key):
        headers = {"Content-Type": "application/json", **({} if key is None else {"X-API-Key": key})}
        path = re.sub("{.*?}", "x", route.path)
        if isinstance(route, APIRoute):
            (method,) = route.methods
            return self.send(method, path, headers, b"{}" if method == "POST" else None)
        try:
            with connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=headers):
                return Answer(101, {}, b"")
        except InvalidStatus as refused:
            found = refused.response
            return Answer(found.status_code, {name.lower(): value for name, value in found.headers.items()}, found.body)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys.create(folder)
    for roles in EVERY:
        keys.api_key(folder, f"only-{'-'.join(roles)}", roles)
    base = conf.load()
    with listening(
        create_app(base.model_copy(update={"keys": base.keys.model_copy(update={"folder": folder})}))
    ) as server:
        yield Asked(server.port, folder)


def test_every_route_names_who_may_ask_or_is_open_to_everybody():
    assert {type(route) for route in OURS} == {APIRoute, APIWebSocketRoute}
    assert {route.path for route in OURS if roles_of(route) is None} == OPEN & {route.path for route in OURS}
    others = [route for route in described_app().routes if getattr(route, "path", None) not in OPEN]
    assert len(others) == len(ROUTES), "a route of the app itself, beside its routers"
    for route in CLOSED:
        assert roles_of(route) <= set(keys.ROLES)


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.path}")
def test_the_matrix_of_routes_and_roles(asked, route):
    assert [asked.route(route, key).status for key in (None, "", "not-a-key")] == [401] * 3
    for roles in EVERY:
        answer = asked.route(route, asked.key(*roles))
        if roles_of(route).isdisjoint(roles):
            assert answer.status == 403, roles
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers.items() >= WANTED
        else:
            # Let in: what comes next fails, as nothing runs behind this app or the body is none; the feed is joined,
            # and the outbox is a file.
            assert answer.status in (101, 200, 404, 422, 500, 503), roles


def test_the_roles_of_the_contract():
    table = {(route.path): roles_of(route) for route in CLOSED}
    assert table == {
        "/v1/decisions": {"decide"},
        "/v1/decisions/{id}": {"decide", "read"},
        "/v1/cards/{token}/decisions": {"decide", "read"},
        "/v1/entities/{kind}/{token:path}": {"decide", "read"},
        "/v1/labels": {"label"},
        "/v1/rules": {"decide", "read"},
        "/v1/lists": {"decide", "read"},
        "/v1/models": {"decide", "read"},
        "/v1/tokens/card": {"reveal"},
        "/v1/feed": {"decide", "read"},
        "/v1/stats": {"decide", "read"},
        "/v1/alerts": {"alerts"},
        "/v1/alert-messages": {"alerts"},
        "/v1/alerts/{id}/acknowledge": {"alerts"},
    }


def test_the_committed_description_is_that_of_the_code():
    assert openapi.FILE.read_text() == openapi.text(), "run `make generate`"


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/labels", "/v1/tokens/card"])
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 20_000, {}, 413),
        (b"[" * 16_000, {}, 422),
        (b'{"a":' * 3_000, {}, 422),
        (b'{"card_number": "\xff\xfe4000000000000002"}', {}, 422),
        (b'{"card_number": "\\ud8004000000000000002"}', {}, 422),
        (b"\x00", {}, 422),
        (b"", {}, 422),
        (b"null", {}, 422),
        (b'{"card_number": 4000000000000002, "transaction_id": NaN}', {}, 422),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "multipart/form-data; boundary=application/json"}, 415),
    ],
)
def test_a_bad_body_is_refused_and_not_repeated(asked, path, body, headers, status):
    key = asked.key("decide") if path == "/v1/decisions" else asked.key("label", "reveal")
    answer = asked.send("POST", path, {"X-API-Key": key, "Content-Type": JSON, **headers}, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert b"4000000000000002" not in answer.body
    assert answer.headers.items() >= WANTED


def test_a_body_without_a_length_is_refused(asked):
    headers = {"X-API-Key": asked.key("decide"), "Content-Type": JSON, "Transfer-Encoding": "chunked"}
    assert asked.send("POST", "/v1/decisions", headers, iter([b"{}"]), chunked=True).status == 411


def test_a_request_without_a_body_needs_no_length_and_no_type(asked):
    key = {"X-API-Key": asked.key("alerts")}
    for headers in (key, {**key, "Content-Length": "0"}):
        assert asked.send("POST", "/v1/alerts/none/acknowledge", headers).status not in (411, 415)


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/metrics", "/v1/stats", "/openapi.json"])
def test_every_answer_has_the_headers(asked, path):
    assert asked.send("GET", path, {}).headers.items() >= WANTED


def test_the_pages_for_people_may_load_their_scripts_and_nothing_else_may(asked):
    assert "https://cdn.jsdelivr.net" in asked.send("GET", "/docs", {}).headers["content-security-policy"]


def test_what_fails_in_the_api_is_a_problem_that_tells_nothing(asked):
    answer = asked.send("GET", "/v1/stats", {"X-API-Key": asked.key("read")})
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "The API failed",
        "status": 500,
        "detail": "Its log says why. The same request may be sent again.",
    }


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "has no keys"),
        ([{"name": "me", "sha256": keys.api_key_digest("changeme"), "roles": ["read"]}], "is an example's"),
        ([{"name": "me", "sha256": keys.api_key_digest("x" * 43), "roles": ["root"]}], "no such role: root"),
    ],
)
def test_no_app_without_real_keys(tmp_path, entries, why):
    keys.write_private(tmp_path / keys.API_KEYS, keys.orjson.dumps(entries))
    with pytest.raises(KeysMissing, match=why):
        callers(tmp_path)


def test_no_app_without_any_keys_wherever_it_listens(tmp_path):
    with pytest.raises(KeysMissing, match="There is no"):
        callers(tmp_path)


def test_an_address_that_is_none_is_named_at_the_start(monkeypatch, capsys):
    monkeypatch.setenv("FRAUDLAKE__API__HOST", "everywhere")
    assert main([]) == 1
    assert "api.host everywhere is not an IP address" in "".join(capsys.readouterr())

"""Challenged customers: link, code, the page, and the one answer that counts."""

import asyncio
import base64
import hashlib
import re
import subprocess
import sys
import threading

import httpx
import pytest
from fastapi import FastAPI

from decisions.effective import effective
from lakehouse import keys, trail
from lakehouse import settings as conf
from serving import problems
from serving.alerts import routes, verify_page
from serving.alerts.database import opened
from serving.alerts.desk import Desk
from serving.alerts.outbox import Outbox
from serving.alerts.results import label, outcome
from serving.alerts.verifications import Verifications, code, is_code, request, signed_id, token
from serving.auth import callers
from serving.decision_store import Progress
from serving.guard import Guard
from serving.limits import Limits
from tests.lakehouse.records import CARD, T0, record
from tests.serving.alerting import OPS, alerts_of, decision, in_the_way, with_alerts
from tests.serving.decided import variables, with_store

NOW = 4_000_000_000_000
"""Long after today, so that a request of the real clock is still open."""
PATIENT = {"rules": [], "channels": [OPS], "verification": {"channel": "ops", "expiry_s": 600}}


@pytest.fixture(scope="module")
def ring(state_folder):
    return keys.source(conf.load()).keyring()


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, settings):
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return with_store(with_alerts(settings, **PATIENT), kind=request.param)


@pytest.fixture
def database(world):
    made = opened(world)
    yield made
    made.close()


def challenge(n, **changes):
    """A challenged decision."""
    given = {"outcome": "challenge", "decided_at": NOW, "received_at": T0, "reason_codes": ["ACCOUNT_TAKEOVER"]}
    return decision(n, **{**given, **changes})


def asked(world, database, *decisions):
    """Requests of decisions, in the outbox."""
    made = [request(one, world.alerts.verification, 1) for one in decisions]
    Outbox(database).take([], made, "ops", NOW, Progress("topic", 0, 0, 1))
    return made


# --- link and code -------------------------------------------------------------------------------------------------


def test_only_a_link_that_we_signed_names_a_request(ring):
    (one,) = [request(challenge(1), with_alerts(conf.load(), **PATIENT).alerts.verification, 1)]
    made = token(ring, one.verification_id, 1)
    assert signed_id(ring, made) == (one.verification_id, 1)
    version, name, signature = made.split(".")
    turned = f"{'0' if name[0] != '0' else '1'}{name[1:]}"
    others = [
        f"{version}.{turned}.{signature}",
        f"{version}.{name}.{signature[:-1]}A" if signature[-1] != "A" else f"{version}.{name}.{signature[:-1]}B",
        f"v2.{name}.{signature}",
        f"v01.{name}.{signature}",
        f"{made}=",
        f"{made}\n",
        made.upper(),
        name,
        "",
        "x" * 10_000,
    ]
    assert [signed_id(ring, other) for other in others] == [None] * len(others)


def test_a_code_is_six_digits_of_its_own_request_and_nothing_else_is_it(ring):
    codes = {f"{n:032x}": code(ring, f"{n:032x}", 1) for n in range(200)}
    assert all(len(made) == 6 and made.isdigit() and is_code(ring, name, 1, made) for name, made in codes.items())
    assert len(set(codes.values())) > 190
    name, made = next(iter(codes.items()))
    wrong = [
        f"{(int(made) + 1) % 1_000_000:06d}",
        made + "0",
        made[:-1],
        f" {made}",
        "",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
    ]
    assert [is_code(ring, name, 1, given) for given in wrong] == [False] * len(wrong)


def test_neither_link_nor_code_can_be_read_from_the_store(world, database, ring):
    (one,) = asked(world, database, challenge(1))
    rows = database.together(
        lambda run: [run(f"SELECT * FROM {name}", ()).fetchall() for name in ("verifications", "alert_messages")]
    )
    assert one.verification_id in str(rows)
    assert code(ring, one.verification_id, 1) not in str(rows)
    assert token(ring, one.verification_id, 1).split(".")[2] not in str(rows)


# --- one answer ------------------------------------------------------------------------------------------------------


def test_the_first_answer_counts_and_no_later_one(world, database):
    (one,) = asked(world, database, challenge(1))
    requests = Verifications(database, 5)
    assert requests.answer(one.verification_id, True, "declined", NOW + 1) == "taken"
    assert requests.answer(one.verification_id, True, "approved", NOW + 2) == "over"
    found = requests.find(one.verification_id)
    assert (found.result, found.ended_at) == ("declined", NOW + 1)
    asked(world, database, challenge(1))
    assert requests.find(one.verification_id) == found
    assert requests.answer("0" * 32, True, "approved", NOW) == "unknown"


def test_after_so_many_wrong_codes_the_right_one_is_none_either(world, database):
    (one,) = asked(world, database, challenge(1))
    requests = Verifications(database, 3)
    assert [requests.answer(one.verification_id, False, "approved", NOW) for _ in range(4)] == ["wrong"] * 3 + ["over"]
    assert requests.answer(one.verification_id, True, "approved", NOW) == "over"


def test_what_expires_unanswered_ends_as_expired_and_is_handed_out_once(world, database):
    one, other = asked(world, database, challenge(1), challenge(2, decided_at=NOW + 1))
    requests = Verifications(database, 5)
    end = NOW + 600_000
    assert requests.ended(end - 1, 1000, 10) == []
    assert requests.answer(one.verification_id, True, "approved", end) == "over"
    (found,) = requests.ended(end, 1000, 10)
    assert (found.verification_id, found.result, found.ended_at) == (one.verification_id, "expired", end)
    assert requests.ended(end, 1000, 10) == []
    # Whoever took it did not get it onto the log: it is handed out again.
    assert [again.result for again in requests.ended(end + 1000, 1000, 10)] == ["expired", "expired"]
    requests.written(found)
    assert [again.verification_id for again in requests.ended(end + 2000, 1000, 10)] == [other.verification_id]


def test_of_many_answers_at_once_one_is_taken(world, database):
    (one,) = asked(world, database, challenge(1))
    requests, said = Verifications(database, 100), []
    start = threading.Barrier(4)

    def work():
        start.wait()
        said.extend(requests.answer(one.verification_id, True, "approved", NOW) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["over"] * 19 + ["taken"]


_REPLICA = """
import sys
from lakehouse import settings as conf
from serving.alerts.database import opened
from serving.alerts.verifications import Verifications

requests = Verifications(opened(conf.load()), 100)
requests.find("")
print("ready", flush=True)
names = sys.stdin.readline().split()
print(sum(requests.answer(name, True, sys.argv[1], int(sys.argv[2])) == "taken" for name in names))
"""


def test_two_replicas_that_get_the_same_answers_at_once_take_each_once(world, database):
    made = asked(world, database, *(challenge(n) for n in range(200)))
    environment = {**variables(world), "FRAUDLAKE__ALERTS__FILE": str(world.alerts.file)}
    replicas = [
        subprocess.Popen(
            [sys.executable, "-c", _REPLICA, result, str(NOW)],
            cwd=conf.home(),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for result in ("approved", "declined")
    ]
    for replica in replicas:
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        replica.stdin.write(" ".join(one.verification_id for one in made) + "\n")
        replica.stdin.flush()
    taken = [int(replica.communicate(timeout=60)[0]) for replica in replicas]
    ended = Verifications(database, 100).ended(NOW, 1000, 1000)
    results = [one.result for one in ended]
    assert (sum(taken), len(ended)) == (200, 200)
    assert taken == [results.count("approved"), results.count("declined")]


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(settings):
    """Asks an app that has these routes alone, over a fresh outbox: `page(method, path, ...)`."""
    world = with_alerts(settings, **PATIENT)
    app = FastAPI()
    app.add_middleware(Guard, most_bytes=world.api.body_limit_bytes)
    problems.install(app)
    for module in (routes, verify_page):
        app.include_router(module.router)
    app.state.callers, app.state.limits = callers(conf.resolve(world.keys.folder)), Limits(world)
    app.state.desk, app.state.settings = Desk(world), world
    database = opened(world)

    def ask(method, path, **given):
        async def asking():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(method, path, **given)

        return asyncio.run(asking())

    ask.world, ask.database = world, database
    yield ask
    app.state.desk.close()
    database.close()


def test_looking_changes_nothing_and_answering_works_once(page, ring):
    (one,) = asked(page.world, page.database, challenge(1, merchant_id="<b>Caf\u00e9</b> & Co"))
    path = f"/v1/verify/{token(ring, one.verification_id, 1)}"
    for _ in range(10):
        seen = page("GET", path)
        assert seen.status_code == 200
    assert "19.99 EUR" in seen.text
    assert "&lt;b&gt;Caf\u00e9&lt;/b&gt; &amp; Co" in seen.text
    assert code(ring, one.verification_id, 1) not in seen.text
    assert seen.headers["cache-control"] == "no-store"
    assert seen.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in seen.headers["content-security-policy"]
    assert page("HEAD", path).status_code == 405
    right = {"code": code(ring, one.verification_id, 1), "answer": "not-me"}
    done = page("POST", path, data=right)
    assert (done.status_code, "is stopped" in done.text) == (200, True)
    assert page("POST", path, data={**right, "answer": "me"}).status_code == 410
    gone = page("GET", path)
    assert (gone.status_code, "19.99" in gone.text, "Caf" in gone.text) == (410, False, False)
    assert Verifications(page.database, 5).find(one.verification_id).result == "declined"


def test_the_enter_key_answers_nothing_and_a_browser_takes_the_style_and_nothing_else(page, ring):
    (one,) = asked(page.world, page.database, challenge(1))
    seen = page("GET", f"/v1/verify/{token(ring, one.verification_id, 1)}")
    # What Enter presses is the first button of a form, and a disabled one submits nothing (HTML, 4.10.21.2).
    assert re.findall("<button([^>]*)>", seen.text) == [
        " disabled hidden",
        ' name="answer" value="me"',
        ' name="answer" value="not-me"',
    ]
    (style,) = re.findall("<style>(.*?)</style>", seen.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert seen.headers["content-security-policy"].endswith(f"; style-src 'sha256-{digest}'")


def test_wrong_codes_are_counted_and_what_is_no_answer_is_not(page, ring):
    (one,) = asked(page.world, page.database, challenge(1))
    path, right = f"/v1/verify/{token(ring, one.verification_id, 1)}", code(ring, one.verification_id, 1)
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    no_answers = [
        {"data": {"code": right}},
        {"data": {"code": right, "answer": "yes"}},
        {
            "content": f"code={right}&answer=me&answer=not-me",
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
        {"content": b"\xff\xfe", "headers": {"content-type": "application/x-www-form-urlencoded"}},
    ]
    assert [page("POST", path, **given).status_code for given in no_answers] == [422] * 4
    assert page("POST", path, json={"code": right, "answer": "me"}).status_code == 415
    answers = [page("POST", path, data={"code": wrong, "answer": "me"}).status_code for _ in range(5)]
    assert answers == [422, 422, 422, 422, 410]
    assert page("POST", path, data={"code": right, "answer": "me"}).status_code == 410


@pytest.mark.parametrize("given", ["x", "v1." + "0" * 32 + "." + "A" * 43, "..%2f..%2fetc", "%00"])
def test_a_link_that_is_not_ours_is_unknown(page, given):
    assert page("GET", f"/v1/verify/{given}").status_code == 404
    assert page("POST", f"/v1/verify/{given}", data={"code": "123456", "answer": "me"}).status_code == 404


def test_alerts_are_for_keys_of_their_role_and_somebody_takes_care_of_one(page):
    world = with_alerts(page.world, rules=[{"name": "declines", "outcomes": ["decline"], "channels": ["ops"]}])
    alerts = alerts_of(world, decision(1))
    Outbox(page.database).take(alerts, [], "", NOW, Progress("topic", 0, 0, 2))
    folder = conf.resolve(world.keys.folder)
    local, replay = ({"X-API-Key": (folder / f"api-{name}.key").read_text()} for name in ("local", "replay"))
    alert_id = alerts[0].alert_id
    routes = [("GET", "/v1/alerts"), ("GET", "/v1/alert-messages"), ("POST", f"/v1/alerts/{alert_id}/acknowledge")]
    assert [page(*route).status_code for route in routes] == [401] * 3
    assert [page(*route, headers=replay).status_code for route in routes] == [403] * 3
    assert page("GET", "/v1/alerts?state=new", headers=local).json()["alerts"][0]["alert_id"] == alert_id
    with in_the_way(trail.place_of(page.world).folder):
        refused = page("POST", f"/v1/alerts/{alert_id}/acknowledge", headers=local)
    assert (refused.status_code, refused.json()["title"]) == (503, "The acknowledgement cannot be recorded")
    assert page("GET", "/v1/alerts?state=new", headers=local).json()["alerts"][0]["alert_id"] == alert_id
    done = page("POST", f"/v1/alerts/{alert_id}/acknowledge", headers=local).json()["alerts"][0]
    assert (done["state"], done["acknowledged_by"]) == ("acknowledged", "local")
    assert page("GET", "/v1/alerts?state=open", headers=local).json() == {"alerts": []}
    *_, told = [one for one in trail.entries(trail.place_of(page.world)) if one.subject == alert_id]
    assert (told.action, told.details["key"]) == ("alert.acknowledged", done["acknowledged_by"])
    assert page("GET", "/v1/alert-messages?state=dead", headers=local).json() == {"messages": []}
    assert page("POST", "/v1/alerts/nothing/acknowledge", headers=local).status_code == 404


# --- what becomes of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "reasons", "is_fraud", "confidence"),
    [
        ("declined", ["ACCOUNT_TAKEOVER"], True, 0.95),
        ("approved", ["BUST_OUT"], False, 0.9),
        ("approved", ["BUST_OUT", "ACCOUNT_TAKEOVER"], False, 0.4),
    ],
)
def test_an_answer_is_a_label_whose_weight_says_who_may_have_answered(settings, result, reasons, is_fraud, confidence):
    asking = with_alerts(settings, **PATIENT).alerts.verification
    one = request(challenge(1, reason_codes=reasons), asking, 1)
    ended = type(one)(**{**one.__dict__, "result": result, "ended_at": NOW + 5000})
    payment = record("payment", transaction_id="t1", device_id="D-1")
    made = label(ended, payment, asking)
    assert (made["is_fraud"], made["confidence"], made["source"]) == (is_fraud, confidence, "customer")
    assert (made["transaction_id"], made["card_number"], made["device_id"]) == ("t1", CARD, "D-1")
    # A payment of 2025 that is answered five seconds after its decision is answered in 2025.
    assert made["received_at"] == made["label_available_at"] == outcome(ended)["received_at"] == T0 + 5000
    assert outcome(ended)["result"] == result


@pytest.mark.parametrize(
    ("decided", "answered", "ended", "expected"),
    [
        ("challenge", None, None, "challenge"),
        ("challenge", None, "approved", "approve"),
        ("challenge", "review", "declined", "decline"),
        ("challenge", None, "expired", "decline"),
        ("challenge", "approve", "expired", "approve"),
        ("challenge", "review", "expired", "decline"),
        ("challenge", "approve", "declined", "decline"),
        ("approve", "review", None, "review"),
        ("approve", "challenge", None, "challenge"),
        ("approve", "challenge", "approved", "approve"),
        ("approve", "challenge", "expired", "decline"),
        (None, "challenge", "declined", "decline"),
        (None, "review", None, "review"),
        ("challenge", None, "what", "challenge"),
        (None, None, None, None),
    ],
)
def test_the_end_of_a_challenge_stands_over_the_answer_over_the_decision(decided, answered, ended, expected):
    assert effective(decided, answered, ended) == expected

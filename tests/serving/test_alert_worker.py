"""The worker and its channels, on receivers of this machine."""

import hashlib
import hmac
import json

import pytest

from lakehouse.keys import write_private
from serving.alerts import channels
from serving.alerts.content import AlertContent
from serving.alerts.database import opened
from serving.alerts.outbox import Outbox
from serving.alerts.webhooks import NotDelivered
from serving.alerts.worker import LANES, Worker
from serving.decision_store import Progress
from tests.serving.alerting import OPS, RULE, SECRET, alerts_of, decision, receiving, receiving_mail, with_alerts
from tests.serving.running import until

SOON = {"first_retry_s": 0.01, "longest_retry_s": 0.02, "timeout_s": 0.3}


@pytest.fixture
def working(settings, monkeypatch):
    """Makes a worker over an outbox with one declined decision for each channel; targets are in the environment."""
    made = []

    def worker_of(targets, rule=RULE, **changes):
        for name, target in targets.items():
            monkeypatch.setenv(f"FRAUDLAKE_ALERT_{name.upper()}", target)
        rules = [{**rule, "name": name, "channels": [name]} for name in targets]
        names = [{"name": name, "kind": "webhook"} for name in targets]
        world = with_alerts(settings, **{"rules": rules, "channels": names, **SOON, "max_age_s": 10**9, **changes})
        outbox = Outbox(opened(world))
        made.append(outbox)
        outbox.take(alerts_of(world, decision(1)), [], "", 0, Progress("topic", 0, 0, 1))
        return Worker(world, outbox), outbox

    yield worker_of
    for outbox in made:
        outbox.database.close()


def ended(worker, outbox, state, count=1):
    """The messages of a state, once there are so many."""

    def found():
        worker.step()
        messages = outbox.messages(state)
        return messages if len(messages) == count else None

    return until(found)


def test_a_receiver_gets_a_message_until_it_takes_it_always_with_the_same_id(working):
    with receiving(hook=500) as server:
        worker, outbox = working({"ops": f"{server.url}/hook {SECRET}"})
        until(lambda: worker.step() or len(server.got) >= 3)
        server.answers["/hook"] = 204
        (sent,) = ended(worker, outbox, "sent")
    assert {one.headers["X-Fraudlake-Id"] for one in server.got} == {sent.message_id}
    (body,) = {one.body for one in server.got}
    told = json.loads(body)
    assert (told["id"], [one["decision_id"] for one in told["alerts"]]) == (sent.message_id, ["decision-1"])
    for one in server.got:
        signed = one.headers["X-Fraudlake-Timestamp"].encode() + b"." + one.body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert one.headers["X-Fraudlake-Signature"] == f"v1={expected}"


def test_targets_that_hang_redirect_fail_or_lie_inside_hold_up_nobody_else(working):
    with receiving(hang="hang", moved=302, broken=500) as server:
        bad = {name: f"{server.url}/{name} {SECRET}" for name in ("hang", "moved", "broken")}
        inside = {"inside": f"http://10.1.2.3/ {SECRET}", "nowhere": f"https://no-such-host.invalid/ {SECRET}"}
        good = {"good": f"{server.url}/good {SECRET}"}
        worker, outbox = working({**bad, **inside, **good}, attempts=2, timeout_s=1.0)
        (sent,) = ended(worker, outbox, "sent")
        assert sent.channel == "good"
        assert "hang" not in {one.channel for one in outbox.messages("dead")}, "it was waited for"
        dead = ended(worker, outbox, "dead", 5)
    assert "/elsewhere" not in {one.path for one in server.got}
    assert {one.channel: one.error for one in dead if one.channel != "hang"} == {
        "moved": "answered 302: redirects are not followed",
        "broken": "answered 500",
        "inside": "refused: the host is on a network that is not public and not in alerts.allow_private",
        "nowhere": "refused: the host has no address",
    }


def test_of_a_channel_that_hangs_no_more_than_a_few_threads_wait(working):
    with receiving(hang="hang") as server:
        worker, outbox = working({"hang": f"{server.url}/hang {SECRET}"}, group_most=1, timeout_s=5)
        others = [decision(n, card_token=f"v1:{n}") for n in range(2, 12)]
        alerts = alerts_of(worker._settings, *others)
        outbox.take(alerts, [], "", 0, Progress("topic", 0, 0, 12))
        until(lambda: worker.step() or len(server.got) == LANES)
        for _ in range(5):
            worker.step()
        assert len(server.got) == LANES


def test_mail_comes_through_a_mail_server(working):
    with receiving_mail() as server:
        target = f"mailto://127.0.0.1:{server.port}/?from=fraud@bank.example&to=desk@bank.example&mode=insecure"
        worker, outbox = working({"mail": target}, channels=[{"name": "mail", "kind": "email"}], timeout_s=5)
        (sent,) = ended(worker, outbox, "sent")
    (mail,) = server.got
    assert "fraudlake: 1 alert" in mail
    assert "desk@bank.example" in mail
    assert sent.message_id in mail


@pytest.mark.parametrize(
    ("kind", "target", "plugin"),
    [
        ("slack", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#fraud", "NotifySlack"),
        ("email", "mailtos://user:word@mail.bank.example/?to=desk@bank.example", "NotifyEmail"),
        ("pagerduty", "pagerduty://integration@key/", "NotifyPagerDuty"),
        ("sms", "twilio://AC735c307c62944b5a7c5:e29dfbcebf390dee9@12345678901/12345678902", "NotifyTwilio"),
        ("sms", "sns://AKIA/secret/us-east-1/+12345678901", "NotifySNS"),
    ],
)
def test_each_kind_takes_the_target_of_its_service_without_redirects_and_with_tls_checked(kind, target, plugin):
    assert target.partition("://")[0] in channels.SCHEMES[kind]
    receiver = channels._receiver(target + ("&" if "?" in target else "?") + "verify=no&redirect=yes", 7)
    assert type(receiver).__name__ == plugin
    assert (receiver.verify_certificate, receiver.redirects, receiver.request_timeout) == (True, False, (7, 7))


@pytest.mark.parametrize(
    ("kind", "target", "why"),
    [
        ("slack", "json://127.0.0.1/", "begins with slack://"),
        ("email", "https://127.0.0.1/", "begins with mailto"),
        ("sms", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#fraud", "begins with twilio"),
        ("slack", "slack://", "apprise does not take the target"),
        ("webhook", "https://hooks.example/", "is not a URL and a secret"),
        ("webhook", "https://hooks.example/ short", "is not a URL and a secret"),
    ],
)
def test_a_target_of_another_kind_is_refused(settings, monkeypatch, kind, target, why):
    monkeypatch.setenv("FRAUDLAKE_ALERT_OPS", target)
    world = with_alerts(settings, channels=[{**OPS, "kind": kind}])
    with pytest.raises(NotDelivered, match=why):
        channels.Sender(world).send("ops", AlertContent("m1", alerts_of(world, decision(1))), 1)


def test_a_target_is_a_variable_or_a_file_that_only_its_owner_reads(settings, tmp_path, monkeypatch):
    world = settings.model_copy(update={"keys": settings.keys.model_copy(update={"folder": tmp_path})})
    with pytest.raises(
        Exception, match=r"There is no .*alert-night-desk.target. Write the target .* FRAUDLAKE_ALERT_NIGHT_DESK"
    ):
        channels.target(world, "night-desk")
    path = tmp_path / "alert-night-desk.target"
    write_private(path, b"https://a.example/ secret\n")
    assert channels.target(world, "night-desk") == "https://a.example/ secret"
    path.chmod(0o640)
    with pytest.raises(Exception, match="can be read by others"):
        channels.target(world, "night-desk")
    monkeypatch.setenv("FRAUDLAKE_ALERT_NIGHT_DESK", "https://b.example/ secret")
    assert channels.target(world, "night-desk") == "https://b.example/ secret"


def test_no_secret_of_a_target_is_ever_logged_or_stored(working, capfd):
    secret = "s3cr3t" + "x" * 32
    with receiving(**{secret: 500}) as server:
        targets = {
            "broken": f"{server.url}/{secret} {secret}",
            "inside": f"https://{secret}.internal:x/ {secret}",
            "mail": f"mailto://user:{secret}@127.0.0.1:9/?to={secret}@bank.example&mode=insecure",
            "chat": f"slack://{secret}",
            "odd": f"{secret}://",
        }
        kinds = {"mail": "email", "chat": "slack", "odd": "sms"}
        made = [{"name": name, "kind": kinds.get(name, "webhook")} for name in targets]
        worker, outbox = working(targets, channels=made, attempts=1)
        dead = ended(worker, outbox, "dead", 5)
        rows = outbox.database.together(lambda run: run("SELECT * FROM alert_messages", ()).fetchall())
    logged = "".join(capfd.readouterr())
    assert logged.count("a message is dead") == 5
    assert all(one.error for one in dead)
    assert "s3cr3t" not in logged + str(rows)

"""The demo's receiver believes what is signed, and its customers answer truthfully."""

import ipaddress
import stat
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.demo.customers import answered, counted, word
from deploy.demo.plan import DemoFailed
from deploy.demo.receiver import CUSTOMERS, ONCALL, Inbox, Receiver, kept, refusal
from serving.alerts.webhooks import NotDelivered, Webhook, signature
from tests.deploy.served import serving

SECRET, BODY, NOW = "s" * 32, b'{"id": "m-1", "kind": "alerts", "alerts": []}', 1_800_000_000


@pytest.mark.parametrize(
    ("stamp", "signed", "reason"),
    [
        (f"{NOW}", signature(SECRET, NOW, BODY), None),
        (f"{NOW - 300}", signature(SECRET, NOW - 300, BODY), None),
        (f"{NOW - 301}", signature(SECRET, NOW - 301, BODY), "timestamp"),
        (f"{NOW + 301}", signature(SECRET, NOW + 301, BODY), "timestamp"),
        (f"{NOW + 1}", signature(SECRET, NOW, BODY), "not signed"),
        (f"{NOW}", signature("t" * 32, NOW, BODY), "not signed"),
        (f"{NOW}", signature(SECRET, NOW, BODY + b" "), "not signed"),
        (f"{NOW}", "v1=\u00e9", "not signed"),
        (f"{NOW}", "", "not signed"),
        ("", signature(SECRET, NOW, BODY), "timestamp"),
        ("\u0661", signature(SECRET, NOW, BODY), "timestamp"),
    ],
)
def test_a_message_is_believed_when_it_is_signed_now_with_the_channels_secret(stamp, signed, reason):
    found = refusal(SECRET, stamp, signed, BODY, NOW)
    assert found is None if reason is None else reason in found


def test_a_message_counts_once_on_its_own_channel_and_nobody_else_may_read_it(tmp_path):
    file = tmp_path / "delivered.jsonl"
    loopback = (ipaddress.ip_network("127.0.0.0/8"),)
    with serving(Receiver(Inbox(file))) as receiver:
        targets = {name: target.split() for name, target in receiver.targets().items()}
        desk, bank = (Webhook(*targets[name], loopback, 5) for name in (ONCALL, CUSTOMERS))
        swapped = Webhook(targets[ONCALL][0], targets[CUSTOMERS][1], loopback, 5)
        now = int(time.time())
        for _ in range(2):
            desk.post("m-1", now, BODY)
        bank.post("m-2", now, b'{"id": "m-2", "kind": "verification"}')
        with pytest.raises(NotDelivered, match="401"):
            swapped.post("m-3", now, b'{"id": "m-3"}')
        with pytest.raises(NotDelivered, match="404"):
            Webhook(f"http://127.0.0.1:{receiver.server_port}/else", SECRET, loopback, 5).post("m-4", now, BODY)
    assert [(one["id"], one["channel"]) for one in kept(file)] == [("m-1", ONCALL), ("m-2", CUSTOMERS)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # One that starts again goes on with what it has.
    assert [Inbox(file).keep({"id": name}) for name in ("m-2", "m-5")] == [False, True]


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer()

    def do_POST(self):
        self.server.forms.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer()

    def _answer(self):
        self.send_response(self.server.status[self.command])
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_customer_opens_the_link_and_posts_code_and_answer():
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Page)) as page:
        page.forms, page.status = [], {"GET": 200, "POST": 200}
        link = f"http://127.0.0.1:{page.server_port}/v1/verify/token"
        assert answered(link, "123456", word(is_fraud=False))
        assert answered(link, "654321", word(is_fraud=True))
        page.status["GET"] = 410
        assert answered(link, "123456", "me") is False
        page.status["GET"] = 503
        assert answered(link, "123456", "me") is None
        assert page.forms == ["code=123456&answer=me", "code=654321&answer=not-me"]
        page.status.update(GET=200, POST=422)
        with pytest.raises(DemoFailed, match="422"):
            answered(link, "123456", "me")
    with pytest.raises(DemoFailed, match="does not answer"):
        answered(link, "123456", "me")


def test_a_metric_is_summed_over_the_labels_that_are_not_given():
    text = (
        "# TYPE fraudlake_ended counter\n"
        'fraudlake_ended_total{result="approved"} 3.0\n'
        'fraudlake_ended_total{result="declined"} 2.0\n'
    )
    assert counted(text, "fraudlake_ended_total") == 5
    assert counted(text, "fraudlake_ended_total", result="declined") == 2
    assert counted(text, "fraudlake_other_total") == 0

"""The demo's customers answer what they are asked, and nothing is left waiting."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.demo.customers import Customers, Told
from deploy.demo.plan import DemoFailed
from deploy.demo.receiver import CUSTOMERS, ONCALL, Inbox
from simulator.truth import SCHEMA
from tests.deploy.served import serving


class _Bank(BaseHTTPRequestHandler):
    """API and metrics of the alerts' process: an answer is on the log when it was looked at once more."""

    def do_GET(self):
        server = self.server
        if self.path == "/metrics":
            body = (
                "# TYPE fraudlake_verifications_ended counter\n"
                f'fraudlake_verifications_ended_total{{result="approved"}} {server.written}\n'
                "# TYPE fraudlake_alerts_planned counter\n"
                'fraudlake_alerts_planned_total{result="repeated"} 4\n'
            )
            server.written = len(server.forms)
        else:
            body = json.dumps({"found": ["m"] * server.waiting if "waiting" in self.path else []})
        self._answer(body)

    def do_POST(self):
        self.server.forms.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self._answer("")

    def _answer(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def bank():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bank)
    server.forms, server.written, server.waiting = [], 0, 0
    with serving(server):
        yield server


@pytest.fixture
def customers(bank, settings, tmp_path):
    """Customers of two challenged payments, one of them fraud, and that one by the API for itself; a third is not."""
    files = {name: tmp_path / name for name in ("truth", "live_results", "delivered")}
    truth = {"transaction_id": ["t1", "t2", "t3"], "is_fraud": [False, True, False], "scenario": [None, "x", None]}
    pq.write_table(pa.table({**truth, "episode": [None, 1, None]}, schema=SCHEMA), files["truth"])
    outcomes = {"outcome": ["challenge", "challenge", "review"], "degraded": [False, True, True]}
    pq.write_table(pa.table({"transaction_id": ["t1", "t2", "t3"], **outcomes}), files["live_results"])
    port = bank.server_port
    at = settings.model_copy(
        update={
            "api": settings.api.model_copy(update={"port": port}),
            "alerts": settings.alerts.model_copy(update={"metrics_port": port}),
        }
    )
    made = Customers(SimpleNamespace(**files), at, print, wait_s=0.6)
    return SimpleNamespace(
        settle=made.settle, inbox=Inbox(files["delivered"]), link=f"http://127.0.0.1:{port}/v1/verify/"
    )


def ask(customers, name, code):
    link = {"link": customers.link + name, "code": code}
    customers.inbox.keep({"id": name, "channel": CUSTOMERS, "transaction_id": name, **link})


def test_whoever_is_asked_answers_truthfully_and_the_log_is_waited_for(customers, bank):
    ask(customers, "t1", "111111")
    ask(customers, "t2", "222222")
    ask(customers, "somebody-else", "333333")
    customers.inbox.keep({"id": "m", "channel": ONCALL, "alerts": [{}, {}, {}]})
    assert customers.settle() == Told(1, 3, 4, 2, {"t1": "me", "t2": "not-me"})
    assert bank.forms == [
        ("/v1/verify/t1", "code=111111&answer=me"),
        ("/v1/verify/t2", "code=222222&answer=not-me"),
    ]
    assert bank.written == 2


def test_what_does_not_move_any_more_is_named(customers, bank):
    ask(customers, "t1", "111111")
    bank.waiting = 2
    with pytest.raises(DemoFailed, match=r"For 0.6 s 1 customers are not asked, there are 2 waiting messages\."):
        customers.settle()

"""The demo's customers: each opens the link of the bank's message and answers with its code, truthfully.

Then it is seen to that everything is where it belongs: every alert told, every question asked, every answer on the log.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.lake import Truth
from deploy.demo.plan import DemoFailed, Plan
from deploy.demo.receiver import CUSTOMERS, ONCALL, kept
from lakehouse import settings as conf
from lakehouse.settings import Settings

WAIT_S = 90.0
"""While nothing moves; everything is told and answered in seconds, but where a message has to be tried again."""
LOOK_S, SAY_S = 0.25, 5.0
TIMEOUT_S = 10
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RESULTS: Mapping[str, str] = {"me": "approved", "not-me": "declined"}
"""What an answer makes of the challenge."""


@dataclass(frozen=True)
class Told:
    """What was delivered and answered in one live part."""

    messages: int
    """To the on-call desk; each has one alert or several."""
    alerts: int
    repeated: int
    """Alerts that another one of the same card and reasons tells of."""
    asked: int
    answers: Mapping[str, str]
    """`me` or `not-me` by transaction id."""


def word(is_fraud: bool) -> str:
    """What an honest customer says of a payment."""
    return "not-me" if is_fraud else "me"


def request(method: str, url: str, headers: Mapping[str, str], body: str | None = None) -> tuple[int, str]:
    """(status, text) of an answer; DemoFailed when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"{parts.netloc} does not answer ({type(error).__name__}).", "`make status`") from None
    finally:
        connection.close()


def answered(link: str, code: str, answer: str) -> bool | None:
    """Open a link and answer; whether it was taken, False where somebody had answered before.

    None while the outbox does not answer; DemoFailed when the page is not what a customer needs.
    """
    status, _ = request("GET", link, {})
    if status == http.HTTPStatus.GONE:
        return False
    if status == http.HTTPStatus.OK:
        status, _ = request("POST", link, FORM, urlencode({"code": code, "answer": answer}))
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return None
    if status != http.HTTPStatus.OK:
        raise DemoFailed(f"A customer's link answered with {status}.", "The API's log says more.")
    return True


def counted(text: str, name: str, **labels: str) -> float:
    """The sum of a metric over all of its labels but those that are given; 0 where it has no value yet."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def challenged(results: Path) -> set[str]:
    """Payments of a live part that were challenged, by the engine or by the API without it, as the sender saw."""
    rows = pq.read_table(results, columns=["transaction_id", "outcome"]).to_pylist()
    return {row["transaction_id"] for row in rows if row["outcome"] == "challenge"}


class Customers:
    """Of one live part; `say` tells how far it is, and `wait_s` is how long nothing may move."""

    def __init__(self, plan: Plan, settings: Settings, say: Callable[[str], None], wait_s: float = WAIT_S) -> None:
        self._plan, self._say, self._wait_s = plan, say, wait_s
        self._api = f"http://{settings.api.host}:{settings.api.port}"
        self._metrics_url = f"http://127.0.0.1:{settings.alerts.metrics_port}/metrics"
        self._key = (conf.resolve(settings.keys.folder) / "api-local.key").read_text().strip()
        truth = Truth.of(plan)
        self._truth = dict(zip(truth.transaction_id, truth.is_fraud.tolist(), strict=True))
        self._expected = challenged(plan.live_results)
        self._seen: set[str] = set()
        self._answers: dict[str, str] = {}

    def settle(self) -> Told:
        """Answer what is asked until nothing waits any more; DemoFailed with what is missing when nothing moves."""
        before: list[str] = []
        moved_at = told_at = time.monotonic()
        while True:
            messages = kept(self._plan.delivered)
            self._answer([one for one in messages if one["channel"] == CUSTOMERS])
            metrics = self._metrics()
            missing = self._missing(metrics)
            if not missing:
                break
            now = time.monotonic()
            if missing != before:
                before, moved_at = missing, now
            if now > moved_at + self._wait_s:
                raise DemoFailed(
                    f"For {self._wait_s:g} s {', '.join(missing)}.",
                    "`python -m serving.alerts list --state dead` and .fraudlake/services/alerts.log say more.",
                )
            if now > told_at + SAY_S:
                told_at = now
                self._say(f"  {', '.join(missing)}")
            time.sleep(LOOK_S)
        desk = [one for one in kept(self._plan.delivered) if one["channel"] == ONCALL]
        return Told(
            messages=len(desk),
            alerts=sum(len(one["alerts"]) for one in desk),
            repeated=int(counted(metrics, "fraudlake_alerts_planned_total", result="repeated")),
            asked=len(self._seen),
            answers=dict(self._answers),
        )

    def _answer(self, questions: list[dict[str, str]]) -> None:
        """Answer what is new; who asks about a payment that somebody else made waits for that person."""
        for one in questions:
            name = one["transaction_id"]
            if name in self._seen or name not in self._truth:
                continue
            answer = word(self._truth[name])
            taken = answered(one["link"], one["code"], answer)
            if taken:
                self._answers[name] = answer
            if taken is not None:
                self._seen.add(name)

    def _missing(self, metrics: str) -> list[str]:
        """What has not happened yet, in words."""
        unasked = len(self._expected - self._seen)
        behind = counted(metrics, "fraudlake_alert_outbox_lag")
        ends = sum(counted(metrics, "fraudlake_verifications_ended_total", result=end) for end in RESULTS.values())
        unwritten = len(self._answers) - int(ends)
        waiting = {
            "new alerts": self._listed("alerts", "new"),
            "waiting messages": self._listed("alert-messages", "waiting"),
            "undeliverable messages": self._listed("alert-messages", "dead"),
        }
        return [
            *([f"{unasked} customers are not asked"] if unasked else []),
            *([f"{unwritten} answers are not on the log"] if unwritten > 0 else []),
            # NaN while nobody knows.
            *([] if behind == 0 else [f"the outbox is behind by {behind:.0f} decisions"]),
            *(
                f"there are {'some' if count is None else count} {what}"
                for what, count in waiting.items()
                if count != 0
            ),
        ]

    def _listed(self, what: str, state: str) -> int | None:
        """How many; None while the outbox does not answer."""
        status, text = request("GET", f"{self._api}/v1/{what}?state={state}", {"X-API-Key": self._key})
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        if status != http.HTTPStatus.OK:
            raise DemoFailed(f"GET /v1/{what} answered with {status}.", "The API's log says more.")
        return sum(len(found) for found in json.loads(text).values())

    def _metrics(self) -> str:
        return request("GET", self._metrics_url, {})[1]

"""Alerts as a process, and what people do with them.

python -m serving.alerts                     fill the outbox, deliver, ask customers, until asked to stop
python -m serving.alerts list                the newest alerts; --state open, new, repeated, stale, acknowledged
python -m serving.alerts list --state dead   messages that were given up; also waiting, sent, needless
python -m serving.alerts acknowledge ID      an alert, or all of a message: nobody else is told
python -m serving.alerts retry ID            deliver a dead message after all
"""

import argparse
import getpass
import sys
import threading
from collections.abc import Sequence

from prometheus_client import start_http_server

from lakehouse import jobs, topics, trail
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.errors import FraudlakeError
from lakehouse.log import configure, logger
from lakehouse.moments import now_ms
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from serving.alerts.channels import target
from serving.alerts.database import opened
from serving.alerts.outbox import Message, Outbox, Shown
from serving.alerts.running import running
from serving.alerts.tables import ACKNOWLEDGED, DEAD, NEEDLESS, NEW, OPEN, REPEATED, SENT, STALE, WAITING

OF_ALERTS, OF_MESSAGES = (NEW, OPEN, REPEATED, STALE, ACKNOWLEDGED), (WAITING, SENT, DEAD, NEEDLESS)


def main(argv: Sequence[str]) -> int:
    """Run, or do what is asked; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.alerts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    actions = parser.add_subparsers(dest="action")
    shown = actions.add_parser("list", help="the newest alerts, or messages of a state")
    shown.add_argument("--state", choices=(*OF_ALERTS, *OF_MESSAGES))
    for name, text in (("acknowledge", "an alert, or all of a message"), ("retry", "a dead message")):
        actions.add_parser(name, help=text).add_argument("id")
    given = parser.parse_args(argv)

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "alerts")
        if given.action is None:
            agreed(settings, or_cached=True)
            with recorded(settings, "serving.alerts"):
                _run(settings)
            return
        outbox = Outbox(opened(settings))
        if given.action == "list":
            _list(outbox, given.state)
        else:
            (_acknowledge if given.action == "acknowledge" else _retry)(settings, outbox, given.id)

    return jobs.guarded(work)


def _run(settings: Settings) -> None:
    # Everything that can be wrong at the start is one sentence.
    topics.identify(settings, topics.EVENTS)
    topics.identify(settings, topics.DECISIONS)
    log = logger("alerts")
    for channel in settings.alerts.channels:
        try:
            target(settings, channel.name)
        except FraudlakeError as error:
            log.warning("a channel has no target: its messages wait for one", channel=channel.name, reason=str(error))
    if not settings.alerts.rules and settings.alerts.verification.channel is None:
        log.warning("no decision alerts anybody: alerts.rules is empty")
    start_http_server(settings.alerts.metrics_port, addr="127.0.0.1")
    with running(settings):
        threading.Event().wait()


def _list(outbox: Outbox, state: str | None) -> None:
    lines = [_message(one) for one in outbox.messages(state)] if state in OF_MESSAGES else []
    lines += [] if state in OF_MESSAGES else [_alert(one) for one in outbox.alerts(state)]
    print("\n".join(lines) or "nothing")


def _message(one: Message) -> str:
    what = one.kind if one.kind != "alerts" else f"{one.alerts} alerts"
    return f"{one.message_id}  {one.state}  {one.channel}  {what}  attempts {one.attempts}  {one.error or ''}".rstrip()


def _alert(one: Shown) -> str:
    alert = one.alert
    by = f"by {one.acknowledged_by}" if one.acknowledged_by else f"of {one.repeats}" if one.repeats else ""
    told = (alert.alert_id, one.state, by, alert.rule, alert.outcome, alert.risk or "", alert.reasons, alert.card_token)
    return "  ".join(part for part in told if part)


def _acknowledge(settings: Settings, outbox: Outbox, given: str) -> None:
    named = outbox.named(given)
    if not named:
        raise FraudlakeError("There is no alert and no message of that id.", "python -m serving.alerts list")
    # On record first: without its entry nothing is done.
    trail.record(settings, "alert.acknowledged", given, {"alerts": len(named)})
    found = outbox.acknowledge(given, getpass.getuser(), now_ms())
    print("\n".join(_alert(one) for one in found))


def _retry(settings: Settings, outbox: Outbox, given: str) -> None:
    none = FraudlakeError("There is no dead message of that id.", "python -m serving.alerts list --state dead")
    if not outbox.is_dead(given):
        raise none
    trail.record(settings, "alert.retried", given, {})
    if not outbox.revive(given, now_ms()):
        raise none
    print("it is delivered again")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

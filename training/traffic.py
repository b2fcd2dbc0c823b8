"""A traffic split from its plan to its end: what shadow cannot see, measured on a share of the customers.

    begin   the test is planned and begins: the challenger decides for a share of the customers
    judge   the criteria over what has matured, as often as one likes
    end     the model in force decides everything again: by the event that was signed at the beginning

Every step is in the audit trail.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from decisions import control, split_control
from decisions.model_control import WAIT_S
from expectations.control import Version
from expectations.split import WHOLE_BP
from lakehouse import settings as conf
from lakehouse import trail
from lakehouse.errors import ControlRefused
from lakehouse.label_ledger import Trust
from lakehouse.log import logger
from lakehouse.settings import Settings
from lakehouse.signing import signer
from training import approval, arms
from training.approval import SPLIT_END
from training.criteria import Criterion
from training.power import Plan, planned
from training.promotion import Signers, began, log_of, on_record, other_people, past_of, store_of, verified
from training.sequential import best_rho

BEGAN = "split.began"


class On(NamedTuple):
    """A split that is on."""

    challenger: str
    """Digest of its bundle."""
    version: int
    """Of scope `split`: another beginning, or another share, is another one."""


def on(settings: Settings) -> On | None:
    """The split that is on at the end of the log."""
    now = past_of(settings).now
    return None if now.split is None else On(now.split.digest, now.versions["split"].version)


def challenger(settings: Settings) -> str | None:
    """Digest of the challenger of the split that is on at the end of the log."""
    found = on(settings)
    return None if found is None else found.challenger


def planned_from_decisions(settings: Settings, champion: str, share_bp: int) -> Plan:
    """The plan of a split, from what the champion's own decisions cost; ControlRefused where none has matured.

    The sequence is narrowest where the test ends: when it has its power, or after `experiment.longest_d`.
    """
    of, trust = settings.experiment, Trust.of(settings.labels)
    found = arms.of_champion(conf.lake_root(settings), champion, settings.training.label_gap_d, trust)
    mean, deviation = (
        arms.deviation(found, share_bp / WHOLE_BP, of.costs, of.cap_minor) if len(found.customer) else (0, 0)
    )
    if not deviation:
        raise ControlRefused(
            f"No payment that model {champion[:12]} decided is matured and cost anything.",
            "Run silver.job; payments count when they are older than training.label_gap_d.",
        )
    per_day = len(found.customer) / arms.days(found)
    plan = planned(of.least_improvement * mean, deviation, of.power, of.alpha, per_day)
    rho = best_rho(min(plan.payments, of.longest_d * per_day), of.alpha)
    return replace(plan, rho=rho, clustered_by="customer, both arms")


def begin(
    settings: Settings,
    digest: str,
    share_bp: int,
    by: Signers,
    say: Callable[[str], None],
    wait_s: float = WAIT_S,
    received_ms: int | None = None,
) -> Plan:
    """Plan a split, say and record the plan, and then let the challenger decide for its share; the plan.

    ControlRefused or BundleRefused say why not; the event that ends it is signed with it. Done again with another share
    it goes on with that one.
    """
    with on_record(settings, digest, "split"):
        now = past_of(settings).now
        split_control.begun(settings, now, digest, share_bp)
        champion = str(now.model_digest)
        verified(settings, digest)
        author, approver = (signer(path) for path in by)
        other_people(settings, digest, author, approver)
        plan = planned_from_decisions(settings, champion, share_bp)
        if plan.days > settings.experiment.longest_d:
            logger("training").warning(
                "the split would take longer than experiment.longest_d", days=round(plan.days, 1)
            )
        say(f"planned: {plan.text()}")
        told: trail.Details = {"champion": champion, "topic_id": log_of(settings), "rho": plan.rho, "alpha": plan.alpha}
        figures = {"payments": plan.payments, "days": round(plan.days, 2), "power": plan.power}
        who: trail.Details = {"share_bp": share_bp, "approver": approver.key_id}
        trail.record(settings, BEGAN, digest, {**told, **figures, **who})
        event, _ = control.put_split(settings, digest, share_bp, *by, received_ms, wait_s=wait_s)
        behind = {"split": Version(event.version, event.digest, event.payload)}
        end_event = control.prepared("split", split_control.ENDED, behind, author, approver)
        approval.write(store_of(settings), digest, SPLIT_END, end_event)
    return plan


def judge(settings: Settings, digest: str) -> list[Criterion]:
    """The criteria over both arms' matured payments; ControlRefused when no split beside the model in force began."""
    champion = str(past_of(settings).now.model_digest)
    # The share may have been changed; the sequence's shape is the first plan's.
    first = began(settings, BEGAN, digest, champion, "split")[0]
    root = conf.lake_root(settings)
    where = arms.spans(root, log_of(settings), champion, digest)
    found = arms.of_split(root, where, settings.training.label_gap_d, Trust.of(settings.labels))
    return arms.judged(found, float(str(first["rho"])), settings.experiment)


def end(
    settings: Settings,
    reason: str,
    by: Signers | None = None,
    received_ms: int | None = None,
    watched: str | None = None,
) -> tuple[str, int]:
    """Have the model in force decide everything again; (the challenger's digest, offset of the event).

    By the event that was signed at the beginning; where there is none that fits, by keys. ControlRefused where no split
    is on, or where it is asked for because of a challenger, `watched`, whose split is not.
    """
    now = past_of(settings).now
    if now.split is None or watched not in (None, now.split.digest):
        raise ControlRefused(f"No split{f' of model {watched[:12]}' if watched else ''} is on.")
    digest = now.split.digest
    try:
        offset = control.put(settings, approval.read(store_of(settings), digest, SPLIT_END), now, received_ms)
    except ControlRefused:
        if by is None:
            raise
        _, offset = control.end_split(settings, *by, received_ms)
    trail.record(settings, split_control.OVER, digest, {"reason": reason, "offset": offset})
    return digest, offset

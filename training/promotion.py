"""Shadow, approval, promotion and the way back; every step in the audit trail.

    shadow    the test is planned and begins: the challenger scores everything without effect
    approve   the criteria are met, and author and approver sign the event that promotes, and the one that takes it back
    promote   the approved event goes to the log: the engine swaps at its place
    rollback  the event that takes it back goes to the log

An author is never the approver, of the event and of the bundle.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from decisions.bundle import Model
from decisions.control import Past, past, prepared, put, put_model, stage
from decisions.model_control import WAIT_S
from decisions.shelf import Shelf
from expectations.control import Version, bundle_digest
from expectations.rules.rule_set import payload_of
from lakehouse import settings as conf
from lakehouse import topics, trail
from lakehouse.errors import BundleRefused, ControlRefused, RegistryUnavailable
from lakehouse.label_ledger import Trust
from lakehouse.log import logger
from lakehouse.moments import DAY_MS
from lakehouse.settings import Settings
from lakehouse.signing import Signer, signer, trust
from training import approval, data, matured
from training.aliases import Aliases
from training.approval import APPROVAL, WAY_BACK
from training.criteria import Criterion, failed, judged
from training.paired import savings
from training.power import Plan, planned
from training.sequential import best_rho

BEGAN = "experiment.began"
MOST_ROWS = 200_000
"""Newest matured payments of history that a plan looks at."""


class Signers(NamedTuple):
    """PEM files of who proposes a change and of who approves it."""

    author: Path
    approver: Path

    @staticmethod
    def local(settings: Settings) -> "Signers":
        """Those of the key folder."""
        folder = conf.resolve(settings.keys.folder)
        return Signers(folder / "author.pem", folder / "approver.pem")


def past_of(settings: Settings) -> Past:
    """What was put into force up to the end of the log."""
    return past(settings, trust(conf.resolve(settings.keys.folder)))


def in_force(settings: Settings) -> str | None:
    """Digest of the model in force at the end of the log."""
    return past_of(settings).now.model_digest


def log_of(settings: Settings) -> str:
    """The broker's id of the log: a test on another one is another test."""
    return topics.identify(settings, topics.EVENTS).topic_id


def store_of(settings: Settings) -> Path:
    """Where bundles lie, and what was signed of them."""
    return conf.resolve(settings.models.store)


def verified(settings: Settings, digest: str) -> Model:
    """The model of a digest, every byte verified here, before anything is signed; BundleRefused says why not."""
    return Shelf.of(settings).loaded(digest)


def planned_from_history(settings: Settings, champion: Model, challenger: Model) -> Plan:
    """The plan of a test, from what both would have decided on history; ControlRefused when they decide the same.

    Their own cuts, no rules. Both may have been fitted on this history: their differences are like those to come, the
    saving itself says nothing and is not looked at.
    """
    of, root = settings.experiment, conf.lake_root(settings)
    pairs = matured.held_out(data.read(root), 0, champion, challenger, settings.training.label_gap_d, MOST_ROWS).pairs
    if not len(pairs.event_ms):
        raise ControlRefused("No payment of gold.training_set is matured.", "Run gold.job when labels have arrived.")
    saved = savings(pairs, of.costs, of.cap_minor)
    if not saved.deviation:
        raise ControlRefused("Both models decide all of history alike.", "There is nothing to test.")
    days = max(1.0, float(np.ptp(pairs.event_ms)) / DAY_MS)
    improvement = of.least_improvement * saved.champion_minor / saved.payments
    return planned(improvement, saved.deviation, of.power, of.alpha, saved.payments / days)


def fitted_until_ms(model: Model) -> int:
    """From when on no payment was one that a model was fitted on; BundleRefused where its manifest does not say."""
    split = model.manifest.get("split", {})
    if "fitted_until_ms" not in split:
        raise BundleRefused(
            f"Model {model.digest[:12]} does not say what it was fitted on.", "Train it by training.job."
        )
    return int(split["fitted_until_ms"])


def learnt_until_ms(model: Model) -> int:
    """From when on no payment told a model anything: neither its trees nor when to stop, calibration, share or cuts."""
    return max(fitted_until_ms(model), int(model.manifest["split"].get("train_end_ms", 0)))


def seen_until_ms(model: Model) -> int:
    """From when on no payment was one that a model was fitted on or tested on."""
    return max(fitted_until_ms(model), int(model.manifest["split"].get("test_end_ms", 0)))


def begin_shadow(
    settings: Settings,
    digest: str,
    by: Signers,
    say: Callable[[str], None],
    wait_s: float = WAIT_S,
    received_ms: int | None = None,
) -> Plan:
    """Plan a test, say and record the plan, and then put the challenger into shadow; the plan.

    ControlRefused where it cannot be planned.
    """
    champion = past_of(settings).now.model_digest
    if champion is None:
        raise ControlRefused("No model is in force.", "Put the first one into force: decisions.control activate.")
    if champion == digest:
        raise ControlRefused(f"Model {digest[:12]} is in force.", "A challenger is another model.")
    plan = planned_from_history(settings, verified(settings, champion), verified(settings, digest))
    if plan.days > settings.experiment.longest_d:
        logger("training").warning("the test would take longer than experiment.longest_d", days=round(plan.days, 1))
    say(f"planned: {plan.text()}")
    told: trail.Details = {
        "champion": champion,
        "topic_id": log_of(settings),
        "rho": plan.rho,
        "payments": plan.payments,
    }
    figures = {"days": round(plan.days, 2), "alpha": plan.alpha, "power": plan.power}
    trail.record(settings, BEGAN, digest, {**told, **figures})
    put_model(settings, digest, *by, received_ms, wait_s=wait_s, scope="shadow")
    return plan


def end_shadow(settings: Settings, by: Signers, received_ms: int | None = None) -> None:
    """Nobody is in shadow any more."""
    now = past_of(settings).now
    if now.shadow_digest is not None:
        author, approver = (signer(path) for path in by)
        event = prepared("shadow", payload_of({"digest": None}), now.versions, author, approver)
        put(settings, event, now, received_ms)


def judge(settings: Settings, digest: str, on_history: bool = False) -> list[Criterion]:
    """The declared criteria over everything that has matured in shadow; ControlRefused when no test began.

    On history they are judged once, over the matured payments of gold.training_set that neither model learnt from.
    """
    champion = past_of(settings).now.model_digest
    if on_history:
        return _on_history(settings, champion, digest)
    newest = began(settings, BEGAN, digest, champion, "shadow")[-1]
    found = matured.read(
        conf.lake_root(settings), champion, digest, settings.training.label_gap_d, Trust.of(settings.labels)
    )
    return judged(found, float(str(newest["rho"])), settings.experiment)


def began(settings: Settings, action: str, digest: str, champion: str | None, how: str) -> list[trail.Details]:
    """What the audit trail says of the beginnings of a challenger's test beside a champion, the oldest first.

    ControlRefused when there was none.
    """
    here = {"champion": champion, "topic_id": log_of(settings)}
    found = [
        entry.details
        for entry in trail.entries(trail.place_of(settings))
        if (entry.action, entry.subject) == (action, digest) and here.items() <= entry.details.items()
    ]
    if not found:
        raise ControlRefused(
            f"No test of model {digest[:12]} beside the model in force was begun.",
            f"Begin one: python -m training.promote {how} --digest {digest}",
        )
    return found


def _on_history(settings: Settings, champion: str | None, digest: str) -> list[Criterion]:
    if champion is None:
        raise ControlRefused("No model is in force.", "There is nothing to compare with.")
    one, other = verified(settings, champion), verified(settings, digest)
    start = max(learnt_until_ms(one), learnt_until_ms(other))
    read = data.read(conf.lake_root(settings))
    found = matured.held_out(read, start, one, other, settings.training.label_gap_d)
    payments = len(found.pairs.event_ms)
    if not payments:
        raise ControlRefused(
            "Every matured payment of gold.training_set was among those that a model learnt from.",
            "Test in shadow, or train with --fitted-until-ms.",
        )
    of = settings.experiment
    return judged(found, best_rho(payments, of.alpha), of)


@contextmanager
def on_record(settings: Settings, digest: str, step: str) -> Iterator[None]:
    """A refusal within is entered in the audit trail before it is told."""
    try:
        yield
    except (BundleRefused, ControlRefused) as error:
        trail.record(settings, "promotion.refused", digest, {"step": step, "reason": error.what})
        raise


def other_people(settings: Settings, digest: str, author: Signer, approver: Signer) -> None:
    """ControlRefused where the approver signed the change as its author, or the bundle."""
    made_by = approval.signed_by(store_of(settings), digest)
    if approver.key_id in (made_by, author.key_id):
        raise ControlRefused(
            f"{approver.key_id} would approve their own work: model {digest[:12]} was signed by {made_by}.",
            "Another person has to approve: --approver-key.",
        )


def approve(
    settings: Settings,
    digest: str,
    by: Signers,
    without_evidence: str | None = None,
    on_history: bool = False,
    wait_s: float = WAIT_S,
    received_ms: int | None = None,
) -> list[Criterion]:
    """Judge, have the model staged, and keep the signed events of its promotion and its way back; the criteria.

    ControlRefused where a criterion is not met, unless a reason is given to go without evidence, which is recorded.
    """
    with on_record(settings, digest, "approve"):
        verified(settings, digest)
        author, approver = (signer(path) for path in by)
        other_people(settings, digest, author, approver)
        criteria = [] if without_evidence else judge(settings, digest, on_history)
        if missing := failed(criteria):
            raise ControlRefused(
                f"Model {digest[:12]} does not meet: {', '.join(missing)}.\n" + spelled(criteria),
                "Wait for more matured payments, or train again.",
            )
        stage(settings, digest, *by, received_ms, False, wait_s)
        now = past_of(settings).now
        event = prepared("model", payload_of({"digest": digest}), now.versions, author, approver)
        approval.write(store_of(settings), digest, APPROVAL, event)
        if now.model_digest is not None:
            behind = {"model": Version(event.version, event.digest, event.payload)}
            back = prepared("model", payload_of({"digest": now.model_digest}), behind, author, approver)
            approval.write(store_of(settings), digest, WAY_BACK, back)
        found = {one.name: one.found for one in criteria} or {"without_evidence": without_evidence or ""}
        trail.record(
            settings, "promotion.approved", digest, {"approver": approver.key_id, "author": author.key_id, **found}
        )
        return criteria


def spelled(criteria: Sequence[Criterion]) -> str:
    """The criteria for people, a line each."""
    return "\n".join(one.text() for one in criteria)


def promote(settings: Settings, digest: str, received_ms: int | None = None) -> int:
    """Put an approved model into force; the offset of the event. BundleRefused or ControlRefused say why not."""
    with on_record(settings, digest, "run"):
        verified(settings, digest)
        event = approval.read(store_of(settings), digest, APPROVAL)
        if event.approver == approval.signed_by(store_of(settings), digest):
            raise ControlRefused(f"{event.approver} approved their own model.", "Another person has to approve.")
        before = past_of(settings)
        offset = put(settings, event, before.now, received_ms)
    details = {"offset": offset, "before": before.now.model_digest, "approver": event.approver}
    trail.record(settings, "promotion.activated", digest, details)
    _point(settings, digest)
    return offset


def _point(settings: Settings, digest: str) -> None:
    """Let the registry follow; what is in force does not depend on it."""
    try:
        Aliases(settings).make_champion(digest)
    except RegistryUnavailable as error:
        logger("training").warning("the registry's champion is not the model in force", reason=error.what)


def rollback(
    settings: Settings,
    reason: str,
    by: Signers | None = None,
    received_ms: int | None = None,
    watched: str | None = None,
) -> tuple[str, int]:
    """Go back to the model before the one in force; (its digest, offset of the event).

    By the event that was signed with the promotion; where there is none that fits, by keys. ControlRefused where it is
    asked for because of a model, `watched`, that is not in force.
    """
    before = past_of(settings)
    serving = before.now.model_digest
    if serving is None:
        raise ControlRefused("No model is in force.")
    if watched not in (None, serving):
        raise ControlRefused(
            f"Model {watched[:12]} is no longer in force, {serving[:12]} is.", "Nothing was taken back; watch that one."
        )
    try:
        event = approval.read(store_of(settings), serving, WAY_BACK)
        offset = put(settings, event, before.now, received_ms)
        digest = str(bundle_digest(event.payload))
    except ControlRefused:
        if by is None:
            raise
        digest = _one_before(before, serving)
        event, offset = put_model(settings, digest, *by, received_ms)
    trail.record(settings, "promotion.rolled_back", serving, {"reason": reason, "to": digest, "offset": offset})
    _point(settings, digest)
    return digest, offset


def way_to(before: Past, version: int) -> list[str]:
    """The models up to a version of scope `model`, that one included, without those that were gone back from."""
    way: list[str] = []
    for one in range(1, version + 1):
        digest = bundle_digest(before.payloads["model", one])
        if digest in way:
            del way[way.index(digest) :]
        if digest is not None:
            way.append(digest)
    return way


def _one_before(before: Past, serving: str) -> str:
    """The model before the one in force; one that was gone back from is not before it."""
    way = way_to(before, before.now.versions["model"].version)
    if len(way) < 2 or way[-1] != serving:
        raise ControlRefused("There was no other model before the one in force.")
    return way[-2]

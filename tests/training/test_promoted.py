"""Whoever begins to watch later finds the promotion that put the model in force there."""

from decisions import control
from expectations.rules.rule_set import payload_of
from lakehouse import settings as conf
from lakehouse import topics
from lakehouse.moments import now_ms
from lakehouse.signing import signer
from tests.decisions import logs, models
from tests.training.live import CUTS
from training import approval, following, promotion
from training.promoted import promoted
from training.promotion import Signers


def test_a_watch_that_begins_later_takes_up_a_promotion_and_no_way_back(broker, settings, tmp_path):
    topics.ensure(settings)
    by, said, keyring = Signers.local(settings), [], conf.resolve(settings.keys.folder)
    champion, challenger = (models.stored(settings.models.store, tmp_path, keyring, 1, cuts) for cuts in CUTS[:2])

    def begun(watch_s=3600.0):
        guard = settings.guard.model_copy(update={"watch_s": watch_s})
        watcher = following.Watcher(settings.model_copy(update={"guard": guard}), said.append)
        watcher._take_up()
        found = None if watcher._guard is None else watcher._guard.digest
        watcher.close()
        return found

    assert begun() is None
    control.put_model(settings, champion, *by, here=True)
    assert begun() is None, "before the first model there was none to go back to"
    before_ms = now_ms()
    # What it was received at says nothing of when it came into force.
    control.put_model(settings, challenger, *by, logs.END_MS, here=True)
    digest, at_ms = promoted(settings)
    assert (digest, before_ms <= at_ms <= now_ms()) == (challenger, True)
    assert begun() == challenger
    (told,) = said
    assert told.startswith(f"model {challenger[:12]} was promoted ")
    assert begun(watch_s=1e-3) is None, "its time has passed"
    control.put_model(settings, champion, *by, here=True)
    assert begun() is None, "a rollback is no promotion"
    # By an approval of its own it is promoted once more.
    now = promotion.past_of(settings).now
    people = (signer(path) for path in by)
    again = control.prepared("model", payload_of({"digest": challenger}), now.versions, *people)
    approval.write(settings.models.store, challenger, approval.APPROVAL, again)
    control.put(settings, again, now)
    assert begun() == challenger

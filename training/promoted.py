"""The promotion that put the model in force there, for who begins to watch when it is on the log already."""

from typing import NamedTuple

from decisions.control import PARTITION
from expectations.control import ControlEvent
from expectations.decoded import heard
from lakehouse import broker, keys, topics
from lakehouse.crypto import Digests
from lakehouse.errors import ControlRefused
from lakehouse.settings import Settings
from training import approval
from training.approval import APPROVAL
from training.promotion import past_of, store_of, way_to


class Promoted(NamedTuple):
    """A model in force that another one was in force before."""

    digest: str
    at_ms: int
    """When the broker took the event."""


def promoted(settings: Settings) -> Promoted | None:
    """The newest event of scope `model`, where it promoted; None where it went back, was the first, or is gone.

    A model that was in force before comes back by a rollback, unless by its own approval.
    """
    past = past_of(settings)
    active, digest = past.now.versions.get("model"), past.now.model_digest
    if active is None or digest is None:
        return None
    before = way_to(past, active.version - 1)
    offset, name = past.offsets["model", active.version], topics.topic_name(settings, topics.EVENTS)
    if not before or offset < broker.watermarks(settings, name, PARTITION)[0]:
        return None
    messages = broker.read_range(settings, name, PARTITION, offset, offset + 1)
    (event,) = heard(messages, Digests(keys.source(settings).keyring()))
    assert isinstance(event, ControlEvent)
    if digest in before and not _approved(settings, digest, event):
        return None
    return Promoted(digest, messages[0].timestamp()[1])


def _approved(settings: Settings, digest: str, event: ControlEvent) -> bool:
    """Whether an event is the approval that lies beside a bundle."""
    try:
        return approval.read(store_of(settings), digest, APPROVAL).control_id == event.control_id
    except ControlRefused:
        return False

"""One replica of the API: what it follows, what it holds in memory, and the threads behind it."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message
from fastapi import Request

from decisions.outcome import REJECTED
from lakehouse import keys, topics
from lakehouse.broker import End
from lakehouse.crypto import Digests, Tokens, up_to
from lakehouse.settings import Settings, resolve
from serving.cards import Reads
from serving.decision_store import ANSWER, DecisionStore, namespace
from serving.decision_writer import DecisionWriter
from serving.decisions import Path
from serving.fallback import Fallback
from serving.feed import Feed
from serving.following import PARTITION, Word, answer_records, answered, ended, followers, reply
from serving.log_writer import LogWriter
from serving.profile_store import ProfileStore
from serving.profile_writer import ProfileWriter
from serving.recent_cards import CardOutcome, RecentCards
from serving.replies import Replies, Reply
from serving.schemas import ModelReasons
from serving.spool import Spool
from serving.spooling import Spooling
from serving.standing import Standing
from serving.stats import DEGRADED, Seen

MAX_ID = 64
"""Characters of an id or token; longer ones are nobody's."""


class Replica:
    """Connected to the log; made on the event loop's side, in a thread, as it asks the broker."""

    def __init__(
        self,
        settings: Settings,
        store: ProfileStore,
        decision_store: DecisionStore,
        reads: Reads,
        feed: Feed,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        source = keys.source(settings)
        ring = source.keyring()
        self._loop, self._timeout_s, self._feed = loop, settings.kafka.request_timeout_s, feed
        self.host = socket.gethostname()
        self.seen = Seen()
        self._source, self._every = source, up_to(ring, ring.token_version)
        self.replies = Replies(settings.api.index_records)
        self.cards = RecentCards(settings.api.index_records)
        self.standing = Standing(settings)
        self.readers = followers(settings, self._decided, self._came)
        self.writer = LogWriter(settings)
        decisions, events = (
            End(settings, topics.topic_name(settings, topic), PARTITION) for topic in (topics.DECISIONS, topics.EVENTS)
        )
        self.profiles = ProfileWriter(store, decisions, settings.profiles.ttl_s, settings.profiles.max_entries)
        self.decision_writer = DecisionWriter(settings, decision_store)
        spool = Spool(resolve(settings.spool.folder) / namespace(settings), source, settings.spool.size_mb << 20)
        self.spooling = Spooling(spool, self.writer, events, self._timeout_s)
        digests = Digests(ring)
        fallback = Fallback(
            settings.ladder,
            self.tokens,
            digests,
            self.cards,
            lambda: self.standing.reference,
            self.standing.blocked,
        )
        timeout_s = settings.api.decision_timeout_ms / 1000
        self.path = Path(
            self.writer,
            self.spooling,
            self.replies,
            digests,
            fallback,
            reads.first_answer,
            timeout_s,
            self.host,
        )

    def tokens(self) -> Sequence[Tokens]:
        """Of every key version up to the one in force, that one last; KeysMissing where a key is not held here."""
        version = self.standing.token_version
        if self._every[-1].version != version:
            self._every = up_to(self._source.keyring(), version)
        return self._every

    def start(self) -> None:
        """Begin to follow; what was spooled before is known and drained."""
        self.path.fallback.warm()
        self.path.restore()
        self.standing.start(self.readers[1].position)
        self.profiles.start(self.readers[0].position, self.readers[0].from_the_start)
        for topic, reader in zip((topics.DECISIONS, topics.EVENTS), self.readers, strict=True):
            if reader.from_the_start:
                self._loop.call_soon_threadsafe(self.seen.begin, topic, 0.0)
            reader.start()
        self.decision_writer.start()
        self.spooling.start()

    def stop(self) -> None:
        """End every thread; what waits is written, if log and stores will have it."""
        for reader in self.readers:
            reader.stop()
        self.spooling.stop()
        self.standing.stop()
        self.profiles.stop()
        self.decision_writer.stop()
        self.writer.close(self._timeout_s)

    def _decided(self, found: list[dict[str, Any]], why: list[tuple[str, ModelReasons]], position: int) -> None:
        """Take decisions, and models' reasons for some, from their reader's thread."""
        if found or why:
            # One call: each wakes the loop, and requests wait there.
            self._loop.call_soon_threadsafe(self._heard, [reply(one) for one in found], found, why)
        if found:
            self.standing.decided(found[-1])
        self.profiles.take(found, position)

    def _heard(self, replies: list[Reply], found: list[dict[str, Any]], why: list[tuple[str, ModelReasons]]) -> None:
        """Take them on the event loop: who waits for one comes first."""
        self.replies.decided(replies)
        self.replies.explained(why)
        if found:
            self.cards.decided(
                [
                    CardOutcome(one["card_token"], one["decided_at"], one["outcome"])
                    for one in found
                    if one["outcome"] != REJECTED
                ]
            )
            self._feed.decided(found)
            self.seen.begin(topics.DECISIONS, found[0]["decided_at"] / 1000)
            self.seen.count([(one["decided_at"], one["outcome"]) for one in found])

    def _came(self, messages: list[Message]) -> None:
        """Take records of `events` from their reader's thread."""
        words = answer_records(messages, self.path.digests)
        answers = {word.offset for word in words if word.kind == ANSWER}
        times = [(message.timestamp()[1], DEGRADED) for message in messages if message.offset() in answers]
        first_s = messages[0].timestamp()[1] / 1000
        self._loop.call_soon_threadsafe(self._told, words, times, first_s)
        self.standing.take(messages)

    def _told(self, words: list[Word], times: list[tuple[int, str]], first_s: float) -> None:
        """Take answers and ends of challenges on the event loop."""
        self.replies.answered(answered(words))
        self.replies.ended(ended(words))
        self.seen.begin(topics.EVENTS, first_s)
        self.seen.count(times)


def replica(request: Request) -> Replica:
    """The replica of a request's app."""
    found: Replica = request.app.state.replica
    return found

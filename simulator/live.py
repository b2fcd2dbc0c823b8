"""The live part of a world in real time: an open loop from the intended instants, and what was decided meanwhile.

The loop never waits for an answer: a payment that is due is sent, to the topic or to one of the API's connections, and
if all connections are busy its waiting counts from the instant at which it was due.
"""

import gc
import http.client
import json
import queue
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, Message

from lakehouse import broker, topics
from lakehouse.errors import BrokerUnavailable, FraudlakeError, SettingsError
from lakehouse.fencing import Fence
from lakehouse.latency import prepare_for_latency
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings
from lakehouse.single import read
from simulator.history import Files
from simulator.options import Options
from simulator.outcomes import API, LOG, Outcome, Outcomes
from simulator.playing import Score, score
from simulator.truth import described_options, write_manifest, write_truth
from simulator.world import world

LAST_WAIT_S = 10.0
"""So long after the last payment its decision may still come."""
CONNECTIONS = 24
"""To the API: at 500 requests a second all of them together stand for 48 ms an answer."""
API_TIMEOUT_S = 5.0
LEAD_S = 1.0
"""Between the end of the preparations and the first payment, for readers and connections to stand."""
FULL = "full"
"""The rung of a decision that nothing was missing from."""

_DECISIONS = {schema.prefix: schema for schema in registry().versions("decision")}


@dataclass(frozen=True)
class Gate:
    """The decision API."""

    url: str
    key: str

    def connection(self) -> http.client.HTTPConnection:
        """A connection to it; SettingsError when the address is none."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"--api-url {self.url} is no http or https address.")
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=API_TIMEOUT_S)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=API_TIMEOUT_S)


def now_ms() -> float:
    """The wall clock in milliseconds."""
    return time.time_ns() / 1e6


class Decisions(threading.Thread):
    """Notes when the decision of each payment on the log could be read."""

    def __init__(self, settings: Settings, partition: int, outcomes: Outcomes) -> None:
        super().__init__(daemon=True)
        name = topics.topic_name(settings, topics.DECISIONS)
        _, end = broker.watermarks(settings, name, partition)
        self._reader = broker.consumer(settings, name, partition, end, low_latency=True)
        self._outcomes = outcomes
        self._fence = Fence()
        self.ending = threading.Event()
        self.error = ""

    def run(self) -> None:
        """Read until told to end."""
        try:
            while not self.ending.is_set():
                messages = broker.take(self._reader, 512, 0.1)
                if messages:
                    self.note(messages, now_ms())
        except FraudlakeError as error:
            self.error = str(error)
        finally:
            self._reader.close()

    def note(self, messages: list[Message], read_at: float) -> None:
        """Take decisions in that became readable at `read_at`."""
        for value in (message.value() or b"" for message in messages):
            schema = _DECISIONS.get(value[:PREFIX_BYTES])
            if schema is None:
                continue
            made = read(schema, value)
            if made["epoch"] > self._fence.epoch:
                self._fence = Fence(made["epoch"])
            found = self._outcomes.by_id.get(made["transaction_id"])
            if not self._fence.counts(made["epoch"], made["offset"]) or found is None or found.path != LOG:
                continue
            if found.decided_at is None:
                found.decided_at, found.outcome, found.degraded = read_at, made["outcome"], made["rung"] != FULL


class Requests:
    """Payments through the API, over some connections at a time."""

    def __init__(self, gate: Gate, outcomes: Outcomes) -> None:
        self._gate, self._outcomes = gate, outcomes
        self._due: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    def send(self, transaction_id: str, body: bytes) -> None:
        """Have a payment posted by the next free connection."""
        self._due.put((transaction_id, body))

    def close(self) -> None:
        """Wait until every payment has been answered or given up."""
        for _ in self._threads:
            self._due.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        connection = self._gate.connection()
        while (item := self._due.get()) is not None:
            transaction_id, body = item
            found = self._outcomes.by_id[transaction_id]
            try:
                found.http_status, answer = self._posted(connection, body)
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                found.http_status = 0
                continue
            if found.http_status == http.client.OK:
                found.acknowledged_at = found.decided_at = now_ms()
                found.outcome, found.degraded = answer["outcome"], answer["degraded"]
        connection.close()

    def _posted(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, dict[str, Any]]:
        headers = {"X-API-Key": self._gate.key, "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/decisions", body, headers)
            response = connection.getresponse()
        except (ConnectionResetError, BrokenPipeError):
            # The server may hang up on a connection that was idle; a transaction asked for twice is answered once.
            connection.close()
            connection.request("POST", "/v1/decisions", body, headers)
            response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if response.status == http.client.OK else {}


class Play:
    """One live part on its way."""

    def __init__(self, settings: Settings, sheet: Score, gate: Gate | None, wait_s: float) -> None:
        self._wait_s = wait_s
        self._sheet, self._topic = sheet, topics.topic_name(settings, topics.EVENTS)
        self.outcomes = Outcomes()
        self._failed = ""
        self._playing = True
        self._producer = broker.producer(settings)
        partitions = topics.identify(settings, topics.DECISIONS).partitions
        self._readers = [Decisions(settings, partition, self.outcomes) for partition in range(partitions)]
        self._requests = Requests(gate, self.outcomes) if gate else None
        self.worst_lag_s = 0.0

    def errors(self) -> list[str]:
        """What the readers of decisions stumbled over."""
        return [reader.error for reader in self._readers if reader.error]

    def _acknowledged(self, row: int, error: KafkaError | None) -> None:
        if error is not None:
            self._failed = self._failed or error.str()
        elif self._sheet.payment[row]:
            self.outcomes.by_id[self._sheet.transaction_id[row]].acknowledged_at = now_ms()

    def _poll(self) -> None:
        while self._playing:
            self._producer.poll(0.05)

    def run(self) -> Outcomes:
        """Play everything; BrokerUnavailable when a record was not acknowledged."""
        # What was made for the play lives as long as it.
        prepare_for_latency()
        try:
            return self._played()
        finally:
            gc.unfreeze()

    def _played(self) -> Outcomes:
        for reader in self._readers:
            reader.start()
        poller = threading.Thread(target=self._poll, daemon=True)
        poller.start()
        begin, wall_ms = time.perf_counter() + LEAD_S, now_ms() + LEAD_S * 1000
        sheet = self._sheet
        rows = zip(sheet.due_s.tolist(), sheet.payment.tolist(), sheet.through_api.tolist(), strict=True)
        for row, (due_s, is_payment, by_api) in enumerate(rows):
            self._wait(begin + due_s)
            if is_payment:
                name = sheet.transaction_id[row]
                self.outcomes.by_id[name] = Outcome(name, API if by_api else LOG, wall_ms + due_s * 1000)
            if by_api and self._requests:
                self._requests.send(sheet.transaction_id[row], sheet.body[row])
            else:
                self._produce(row)
        return self._finish(poller)

    def _wait(self, instant: float) -> None:
        while (left := instant - time.perf_counter()) > 0:
            time.sleep(left)
        self.worst_lag_s = max(self.worst_lag_s, -left)

    def _produce(self, row: int) -> None:
        self._producer.produce(
            self._topic,
            self._sheet.payload[row],
            partition=int(self._sheet.partition[row]),
            on_delivery=lambda error, _: self._acknowledged(row, error),
        )

    def _finish(self, poller: threading.Thread) -> Outcomes:
        if self._requests:
            self._requests.close()
        self._producer.flush(LAST_WAIT_S)
        deadline = time.monotonic() + self._wait_s
        while self.outcomes.undecided() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._playing = False
        poller.join()
        for reader in self._readers:
            reader.ending.set()
            reader.join()
        if self._failed or len(self._producer):
            raise BrokerUnavailable(
                f"Topic {self._topic} did not take every record: {self._failed or 'no acknowledgement'}.",
                "The live part is incomplete; play it on a fresh world.",
            )
        return self.outcomes


def play(
    settings: Settings,
    options: Options,
    api_share: float,
    gate: Gate | None,
    results: Path | None,
    files: Files,
    skip_s: float = 0.0,
    seconds: float | None = None,
    wait_s: float = LAST_WAIT_S,
) -> list[str]:
    """Play a world's live part, or `seconds` of it after the first `skip_s`; lines for people."""
    topics.ensure(settings)
    partitions = topics.identify(settings, topics.EVENTS).partitions
    sheet = score(world(options), api_share if gate else 0.0, partitions, skip_s, seconds)
    print(
        f"{sheet.tally.valid_payments:,} payments, {len(sheet.payload) - sheet.tally.valid_payments:,} other records "
        f"in {sheet.seconds:g} s, a world {options.pace:,.0f} times faster than the clock",
        file=sys.stderr,
    )
    part = Play(settings, sheet, gate, wait_s)
    outcomes = part.run()
    if results:
        outcomes.write(results)
    if files.truth:
        write_truth(files.truth, [sheet.truth], add=True)
    if files.manifest:
        write_manifest(files.manifest, "live", {"options": described_options(options), **sheet.tally.described()})
    behind = [f"the sender was up to {part.worst_lag_s * 1000:.0f} ms late"] if part.worst_lag_s > 0.05 else []
    return [*outcomes.described(), *behind, *part.errors()]

"""Running streams: their failures become our errors, and a broker that is away is waited for."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from lakehouse.errors import CheckpointDamaged, FraudlakeError, RangeMissing, Terminal
from lakehouse.jobs import Context
from lakehouse.log import logger

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
"""A broker's restart takes seconds, an outage minutes: the wait doubles in between."""
RETRIES = 3
"""Starts in a row without a batch before a failure counts. One is ordinary: after a batch that a crash interrupted,
Spark 4.1's Kafka source commits it and then dies of its own metrics (a null in KafkaMicroBatchStream.metrics)."""

_LOST = ("data may have been lost", "OffsetOutOfRange", "some data may have been missed")
_TORN = (
    *("Incomplete log file", "end-of-input", "No content to map", "Checksum error", "doesn't exist (latestId"),
    *("Expected e.g. {", "sources in the checkpoint", "Unrecognized token", "Log file was malformed"),
    "should be empty on batch 0",
)
"""What Spark 4.1 says of empty, half and missing files in a checkpoint; it names no class of its own for them."""
_BROKER = ("org.apache.kafka", "BrokerUnavailable", "KafkaException", "TimeoutException")

Write = Callable[[DataFrame, int], None]


@dataclass
class Stream:
    """One stream: `open` makes a writer for `write`, which may be called again after a failure."""

    name: str
    open: Callable[[], DataFrame]
    write: Write
    trigger_s: int
    deleted: str = ""
    """What to do where records were deleted before they were read."""
    query: StreamingQuery | None = None
    error: BaseException | None = field(default=None, repr=False)
    wait_s: float = FIRST_WAIT_S
    failures: int = 0

    def start(self, context: Context) -> None:
        """Start it from its checkpoint."""
        self.error = None

        def guarded(batch: DataFrame, number: int) -> None:
            # Spark reports a callback's exception as text; the type is what says whether to go on.
            try:
                self.write(batch, number)
            except BaseException as error:
                self.error = error
                raise
            self.wait_s, self.failures = FIRST_WAIT_S, 0

        writer: DataStreamWriter = self.open().writeStream.foreachBatch(guarded)
        writer = writer.option("checkpointLocation", context.checkpoint(self.name)).queryName(self.name)
        if context.available_now:
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=f"{self.trigger_s} seconds")
        self.query = None
        try:
            self.query = writer.start()
        except Exception as error:
            if (refused := _torn(context, self.name, str(error))) is not None:
                raise refused from error
            raise

    def failure(self, context: Context) -> Exception | None:
        """Why it stopped; None while it runs or when it is done."""
        assert self.query is not None
        if self.query.isActive:
            return None
        found = self.query.exception()
        if found is None:
            return None
        if isinstance(self.error, FraudlakeError):
            return self.error
        text = str(found)
        if any(sign in text for sign in _LOST):
            return RangeMissing(
                f"{self.name}: records were deleted from the topic before they were read.",
                f"Kafka's message names the offsets: {_cause(found)} {self.deleted}".rstrip(),
            )
        return _torn(context, self.name, text) or found


def again(context: Context, name: str) -> str:
    """What to do about a checkpoint that cannot be used: a table that is appended by position needs none."""
    return (
        f"Delete {context.checkpoint(name)} and start again: the stream reads from the topic's first record, and the "
        "table takes what it lacks and nothing twice."
    )


def _torn(context: Context, name: str, text: str) -> CheckpointDamaged | None:
    """The error of a stream whose checkpoint cannot be read; None when it is something else."""
    if not any(sign in text for sign in _TORN):
        return None
    said = next(line.strip() for line in text.splitlines() if any(sign in line for sign in _TORN))
    return CheckpointDamaged(f"{name}: its checkpoint cannot be read ({said[:300]}).", again(context, name))


def _cause(error: StreamingQueryException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "offset" in line.lower() and any(c.isdigit() for c in line)]
    return [*telling, *lines, type(error).__name__][0][:500]


def _said(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0][:300]


def run(context: Context, streams: Sequence[Stream]) -> None:
    """Run the streams until all is done (available now) or for ever.

    A failure is tried again a few times; for a broker that is away, a continuous run waits as long as it takes.
    """
    log = logger("streams")
    for stream in streams:
        stream.start(context)
    while True:
        active = [s for s in streams if s.query is not None and s.query.isActive]
        for stream in streams:
            failure = stream.failure(context)
            if failure is None:
                continue
            stream.failures += 1
            patient = not context.available_now and any(sign in f"{type(failure)} {failure}" for sign in _BROKER)
            if isinstance(failure, Terminal) or (stream.failures > RETRIES and not patient):
                for other in active:
                    if other.query is not None:
                        other.query.stop()
                raise failure
            log.warning(
                "stream failed; it starts again", stream=stream.name, wait_s=stream.wait_s, reason=_said(failure)
            )
            time.sleep(stream.wait_s)
            stream.wait_s = min(stream.wait_s * 2, LONGEST_WAIT_S)
            stream.start(context)
            active.append(stream)
        if not active and context.available_now:
            return
        if active and active[0].query is not None:
            with suppress(StreamingQueryException):  # `failure` says why
                active[0].query.awaitTermination(1)

"""An engine in office that decides what comes, and the models and the moment that tests of promotions share."""

import threading
import time
from datetime import UTC, datetime

from decisions import job
from decisions.staging import PARTITION
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read
from tests.decisions import logs

DECISION = registry().latest("decision")
AS_OF = datetime.fromtimestamp(logs.END_MS / 1000, UTC)
CUTS = [{"challenge": at, "review": 1.5 * at, "decline": 3 * at} for at in (0.03, 0.02, 0.025)]


class Live:
    """An engine in office that decides what comes, in a thread."""

    def __init__(self, settings):
        self.settings = settings
        self.process = job.Process(settings)
        self.process.take_office()
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stopping:
            self.process.once()

    def stop(self):
        self._stopping = True
        self._thread.join()
        self.process.close()

    def pay(self, values):
        writer = log.producer(self.settings)
        for value in values:
            writer.produce(topics.topic_name(self.settings, topics.EVENTS), value, partition=PARTITION)
        assert writer.flush(10) == 0

    def decided(self, count):
        """All decisions, once there are so many."""
        name, until = topics.topic_name(self.settings, topics.DECISIONS), time.monotonic() + 60
        while True:
            end = log.watermarks(self.settings, name, PARTITION)[1]
            values = [m.value() for m in log.read_range(self.settings, name, PARTITION, 0, end)]
            found = [read(DECISION, value) for value in values if value[:PREFIX_BYTES] == DECISION.prefix]
            if len(found) >= count:
                return found
            assert time.monotonic() < until, (len(found), count)
            time.sleep(0.05)

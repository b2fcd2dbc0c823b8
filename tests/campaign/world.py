"""The world of a campaign: a broker behind a proxy, a lake, a model in force, and a steady stream of records."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.place import apart
from decisions import control
from deploy.local import job as services
from deploy.local import kafka
from deploy.local.apart import free_ports
from deploy.local.process import Service
from lakehouse import broker, topics
from lakehouse import settings as conf
from lakehouse.settings import Settings
from simulator.options import Options
from simulator.world import days, world
from tests.campaign.proxy import Proxy
from tests.decisions import models

DAY_MS = 86_400_000
SPAN_DAYS = 5
VARIABLES = {
    "FRAUDLAKE__SPARK__MASTER": "local[2]",
    "FRAUDLAKE__SPARK__DRIVER_MEMORY": "1g",
    "FRAUDLAKE__SPARK__JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
    "FRAUDLAKE__BRONZE__TRIGGER_S": "1",
    "FRAUDLAKE__SILVER__TRIGGER_S": "1",
    "FRAUDLAKE__ENGINE__SNAPSHOT_INTERVAL_S": "2",
}
"""Often and small: many moments at which a kill can come between two steps."""


SLICE_S, SLOWEST_PER_S = 10.0, 2.0
"""How long the records of one fault last, roughly, and how slowly they come at least."""


@dataclass(frozen=True)
class World:
    """Where a campaign happens."""

    settings: Settings
    folder: Path
    proxy: Proxy

    @property
    def services(self) -> Path:
        """Where the broker's pid file and log lie."""
        return services.services_folder(self.settings)

    @property
    def kafka(self) -> Service:
        """The broker's process."""
        return Service(kafka.NAME, self.services)

    def start_broker(self) -> None:
        """Start the broker if it does not run, and wait until it answers."""
        services.up(self.settings, (kafka,))


@contextmanager
def made(keep: bool = False) -> Iterator[World]:
    """A fresh world, in force through the environment; its files are removed unless somebody wants to look at them."""
    folder = Path(tempfile.mkdtemp(prefix="fraudlake-campaign-"))
    before = dict(os.environ)
    proxy = None
    try:
        with apart(folder) as settings:
            (port,) = free_ports(1)
            proxy = Proxy(port, settings.services.kafka_port)
            os.environ.update({**VARIABLES, "FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
            one = World(conf.load(), folder, proxy)
            one.start_broker()
            topics.ensure(one.settings)
            _in_force(one.settings, folder)
            yield one
    finally:
        Service(kafka.NAME, folder / "services").stop()
        if proxy is not None:
            proxy.close()
        os.environ.clear()
        os.environ.update(before)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _in_force(settings: Settings, folder: Path) -> None:
    keys = conf.resolve(settings.keys.folder)
    author, approver = keys / "author.pem", keys / "approver.pem"
    long_ago = int(time.time() * 1000) - 30 * DAY_MS
    reference = (conf.home() / "conf" / "reference.json").read_text()
    control.activate(settings, "reference", reference, author, approver, long_ago)
    digest = models.stored(conf.resolve(settings.models.store), folder / "scratch", keys)
    control.put_model(settings, digest, author, approver, long_ago, here=True)


def records(number: int, seed: int) -> list[bytes]:
    """So many records of a synthetic world, some of them faulty."""
    out: list[bytes] = []
    end_ms = int(time.time() * 1000) - 3_600_000
    # A payment brings about one other record with it.
    per_day = max(100, number // (2 * SPAN_DAYS) + 50)
    faulty = per_day * SPAN_DAYS // 40 // 11  # as many as a world takes
    options = Options(
        end_ms=end_ms, days=SPAN_DAYS, payments_per_day=per_day, seed=seed, fraud_rate=0.01, faults=faulty
    )
    for day in days(world(options)):
        out += day.records.payload.to_list()
        if len(out) >= number:
            break
    return out[:number]


class Sender(threading.Thread):
    """Writes records up to a limit that moves with the campaign, slower towards it: there is always more to come."""

    def __init__(self, settings: Settings, payloads: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.limit = 0
        self._settings, self._payloads = settings, payloads

    def run(self) -> None:
        """Send what is due, several times a second."""
        name = topics.topic_name(self._settings, topics.EVENTS)
        writer = broker.producer(self._settings, linger_ms=5)
        due, before = 0.0, time.monotonic()
        while self.sent < len(self._payloads):
            now = time.monotonic()
            left = self.limit - self.sent
            due += (now - before) * (left if self.limit >= len(self._payloads) else max(SLOWEST_PER_S, left / SLICE_S))
            before = now
            while due >= 1 and self.sent < len(self._payloads):
                try:
                    writer.produce(name, self._payloads[self.sent], partition=0)
                except BufferError:
                    break
                self.sent, due = self.sent + 1, due - 1
            writer.poll(0.05)
        while writer.flush(5):
            pass

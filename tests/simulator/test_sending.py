"""Against a real broker: what was made is what lies on the topic, and what is decided is what is noted."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from simulated import END_MS, decoded

from lakehouse import broker as log
from lakehouse import topics
from lakehouse.codec import Batch, Column
from lakehouse.errors import SettingsError
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.settings import Settings
from lakehouse.texts import Flags, Texts
from simulator.history import Files, send_history
from simulator.live import Gate, play
from simulator.options import Options
from simulator.outcomes import SCHEMA
from simulator.playing import score
from simulator.world import between, world

PAYMENT, DECISION = registry().latest("payment"), registry().latest("decision")


def _topic(settings: Settings) -> list[bytes]:
    name = topics.topic_name(settings, topics.EVENTS)
    _, end = log.watermarks(settings, name, 0)
    return [m.value() or b"" for m in log.read_range(settings, name, 0, 0, end)]


@pytest.mark.usefixtures("broker")
def test_the_topic_holds_the_history_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    options = Options(END_MS, days=3, payments_per_day=400, fraud_rate=0.02, seed=6, live_s=10, rate=50, faults=2)
    files = Files(tmp_path / "truth.parquet", tmp_path / "manifest.json")
    reports: list[int] = []
    summary = send_history(settings, options, files, lambda total: reports.append, time.monotonic)
    made = [r for p in between(world(options), options.start_ms, options.live_from_ms) for r in p.payload.to_list()]
    assert _topic(settings) == made
    assert summary.startswith(f"{len(made):,} records in ")
    assert reports == sorted(reports)
    manifest = json.loads(files.manifest.read_text())["history"]  # type: ignore[union-attr]
    assert sum(manifest["records"].values()) == len(made)
    assert manifest["options"]["history_ends_at"] == "2026-02-28T06:00:00.000Z"
    assert manifest["first_received_at"] < manifest["last_received_at"] < manifest["options"]["history_ends_at"]
    truth = pq.read_table(files.truth)
    assert truth.num_rows == manifest["valid_payments"]
    assert sum(truth.column("is_fraud").to_pylist()) == sum(manifest["frauds"].values()) > 10


@pytest.mark.usefixtures("broker")
def test_a_customer_stays_in_one_of_several_partitions(settings: Settings) -> None:
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 3})})
    options = Options(END_MS, days=1, payments_per_day=300, seed=2)
    send_history(settings, options, Files(None, None), lambda total: lambda done: None, time.monotonic)
    name, home, total = topics.topic_name(settings, topics.EVENTS), {}, 0
    for partition in range(3):
        _, end = log.watermarks(settings, name, partition)
        assert end > 100
        total += end
        values = [m.value() or b"" for m in log.read_range(settings, name, partition, 0, end)]
        paid = Texts.of([v for v in values if v[:PREFIX_BYTES] == PAYMENT.prefix])
        for customer in decoded("payment", paid).texts("customer_id").to_list():
            assert home.setdefault(customer, partition) == partition
    assert total == sum(len(p) for p in between(world(options), options.start_ms, END_MS))


@dataclass
class Engine(threading.Thread):
    """Decides every payment that it reads from the log: `decline` above 50 units, degraded on every tenth offset."""

    settings: Settings
    epoch: int = 7
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        name = topics.topic_name(self.settings, topics.EVENTS)
        _, end = log.watermarks(self.settings, name, 0)
        self._reader = log.consumer(self.settings, name, 0, end, low_latency=True)
        self._writer = log.producer(self.settings)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Read, decide, write; a fenced predecessor contradicts every decision."""
        while not self.ending.is_set():
            found = [
                m for m in log.take(self._reader, 100, 0.05) if (m.value() or b"")[:PREFIX_BYTES] == PAYMENT.prefix
            ]
            if found:
                batch = decoded("payment", Texts.of([m.value() or b"" for m in found]))
                large = (batch.numbers("amount_minor") > 5_000).tolist()
                offsets = [int(m.offset() or 0) for m in found]
                self._write(batch, offsets, ["decline" if x else "approve" for x in large], self.epoch)
                self._write(batch, offsets, ["review"] * len(found), self.epoch - 1)
        self._reader.close()

    def _write(self, payments: Batch, offsets: list[int], outcomes: list[str], epoch: int) -> None:
        n = payments.rows
        columns: dict[str, Column] = {}
        valid: dict[str, Flags] = {}
        for f in DECISION.codec.fields:
            columns[f.name] = np.zeros(n)
            if f.nullable:
                valid[f.name] = np.zeros(n, np.bool_)
            if DECISION.parsed["fields"][[x.name for x in DECISION.codec.fields].index(f.name)]["type"] in (
                "string",
                "bytes",
            ):
                columns[f.name] = Texts.of([""] * n)
        from lakehouse.codec import Strings

        columns |= {"rejected_by": Strings.of([[]] * n), "reasons": Strings.of([[]] * n)}
        columns |= {
            "transaction_id": payments.texts("transaction_id"),
            "offset": np.array(offsets),
            "epoch": np.full(n, epoch),
            "outcome": Texts.of(outcomes),
            "rung": Texts.of(["static" if o % 10 == 0 else "full" for o in offsets]),
        }
        packed, bounds = DECISION.codec.encode(Batch(n, columns, valid), DECISION.prefix)
        raw = packed.tobytes()
        name = topics.topic_name(self.settings, topics.DECISIONS)
        for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self._writer.produce(name, raw[a:b], partition=0)
        self._writer.flush(5)


class Api(BaseHTTPRequestHandler):
    """Approves what it is asked about; every fourth answer is degraded, every fifth request is refused."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[dict[str, Any]]] = []
    hangs_up: ClassVar[bool] = False
    keys: ClassVar[set[str | None]] = set()

    def do_POST(self) -> None:
        """Answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = len(self.asked)
        self.asked.append(body)
        self.keys.add(self.headers["X-API-Key"])
        answer = json.dumps(
            {"transaction_id": body["transaction_id"], "outcome": "approve", "degraded": number % 4 == 0}
        ).encode()
        self.send_response(503 if number % 5 == 0 else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.hangs_up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    """The address of an API."""
    Api.asked.clear()
    Api.keys.clear()
    Api.hangs_up = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


LIVE = Options(END_MS, days=2, payments_per_day=2_000, fraud_rate=0.02, seed=9, live_s=3, rate=100)


@pytest.mark.usefixtures("broker")
def test_live_payments_are_decided_by_both_paths_and_every_one_is_noted(
    settings: Settings, api: str, tmp_path: Path
) -> None:
    topics.ensure(settings)
    engine = Engine(settings)
    engine.start()
    results = tmp_path / "results.parquet"
    files = Files(tmp_path / "truth.parquet", tmp_path / "manifest.json")
    began = time.time() * 1000
    said = play(settings, LIVE, 0.3, Gate(api, "a-key"), results, files)
    engine.ending.set()
    engine.join()
    table = pq.read_table(results)
    assert table.schema.equals(SCHEMA)
    rows = {row["transaction_id"]: row for row in table.to_pylist()}
    by_log = [row for row in rows.values() if row["path"] == "log"]
    by_api = [row for row in rows.values() if row["path"] == "api"]
    assert 0.2 < len(by_api) / len(rows) < 0.4
    assert {row["outcome"] for row in by_log} == {"approve", "decline"}  # never the fenced engine's `review`
    assert 0 < sum(row["degraded"] for row in by_log) < 0.3 * len(by_log)
    assert all(row["intended_at"] <= row["acknowledged_at"] <= row["decided_at"] + 50 for row in by_log)
    assert all(row["http_status"] is None for row in by_log)
    assert min(row["intended_at"] for row in rows.values()) >= began
    assert max(row["intended_at"] for row in rows.values()) - min(row["intended_at"] for row in rows.values()) <= 3_000
    refused = [row for row in by_api if row["http_status"] == 503]
    assert len(refused) == len([n for n in range(len(by_api)) if n % 5 == 0])
    assert all(row["decided_at"] is None for row in refused)
    assert {row["outcome"] for row in by_api if row["http_status"] == 200} == {"approve"}
    assert said[0].startswith(f"log: {len(by_log):,} payments, {len(by_log):,} decided, ")
    assert said[1].startswith(f"api: {len(by_api):,} payments, {len(by_api) - len(refused):,} decided, ")
    assert "p50" in said[0]
    assert Api.keys == {"a-key"}
    assert pq.read_table(files.truth).num_rows == len(rows)
    assert json.loads(files.manifest.read_text())["live"]["valid_payments"] == len(rows)  # type: ignore[union-attr]


@pytest.mark.usefixtures("broker")
def test_the_api_is_asked_with_the_fields_of_the_payment(settings: Settings, api: str) -> None:
    topics.ensure(settings)
    play(settings, LIVE, 0.3, Gate(api, "a-key"), None, Files(None, None), wait_s=0.5)
    on_topic = _topic(settings)
    paid = [r for p in between(world(LIVE), LIVE.live_from_ms, END_MS) for r in p.payload.to_list()]
    assert len(on_topic) == len(paid) - len(Api.asked)
    assert set(on_topic) < set(paid)
    asked = {body["transaction_id"]: body for body in Api.asked}
    missing = decoded("payment", Texts.of([r for r in paid if r not in set(on_topic)]))
    assert set(asked) == {name.decode() for name in missing.texts("transaction_id").to_list()}
    row = next(i for i in range(missing.rows) if missing.has("shipping_address")[i])
    body = asked[missing.texts("transaction_id").get(row).decode()]
    assert set(body) == {f.name for f in PAYMENT.codec.fields if missing.has(f.name)[row]}
    assert body["amount_minor"] == int(missing.numbers("amount_minor")[row])
    place = next(i for i in range(missing.rows) if missing.has("latitude")[i])
    assert asked[missing.texts("transaction_id").get(place).decode()]["latitude"] == missing.numbers("latitude")[place]
    at = np.datetime64(int(missing.numbers("event_time")[row]), "ms")
    assert body["event_time"] == f"{at}Z"
    assert body["account_opened_on"] == str(np.datetime64(int(missing.numbers("account_opened_on")[row]), "D"))
    assert isinstance(body["is_recurring"], bool)


@pytest.mark.usefixtures("broker")
def test_a_connection_that_was_closed_meanwhile_loses_no_payment(settings: Settings, api: str, tmp_path: Path) -> None:
    Api.hangs_up = True
    options = Options(END_MS, days=1, payments_per_day=2_000, seed=9, live_s=1, rate=50)
    play(settings, options, 1, Gate(api, "a-key"), tmp_path / "results.jsonl", Files(None, None), wait_s=0)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(rows) > 30
    assert {row["http_status"] for row in rows} == {200, 503}
    assert {body["transaction_id"] for body in Api.asked} == {row["transaction_id"] for row in rows}


@pytest.mark.usefixtures("broker")
def test_when_nobody_decides_the_payments_stay_undecided(settings: Settings, tmp_path: Path) -> None:
    options = Options(END_MS, days=1, payments_per_day=2_000, seed=9, live_s=1, rate=50)
    said = play(settings, options, 0, None, tmp_path / "results.jsonl", Files(None, None), wait_s=0.5)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert said[0] == f"log: {len(rows)} payments, 0 decided, 0 degraded"
    assert list(rows[0]) == SCHEMA.names
    assert all(row["acknowledged_at"] is not None for row in rows)
    assert {row["decided_at"] for row in rows} == {None}
    assert len(_topic(settings)) >= 2 * len(rows) - 2


def test_a_live_part_played_in_pieces_is_the_live_part() -> None:
    made = world(LIVE)
    whole, *pieces = (score(made, 0.3, 1, *part) for part in ((0, 3), (0, 1), (1, 1.5), (2.5, 0.5)))
    assert [r for piece in pieces for r in piece.payload] == whole.payload
    assert [t for piece in pieces for t in piece.transaction_id] == whole.transaction_id
    shifts = zip(pieces, (0, 1, 2.5), strict=True)
    assert np.allclose(np.concatenate([piece.due_s + skip for piece, skip in shifts]), whole.due_s)
    with pytest.raises(SettingsError, match="ends after 3 s"):
        score(made, 0.3, 1, 2.5, 0.6)

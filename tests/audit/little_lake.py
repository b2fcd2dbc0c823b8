"""A literal little world: some seventy records on real topics, and the tables that a lake makes of them.

The rows are written directly, as the contracts say they are: damage can then be done in milliseconds.
"""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from lakehouse import broker, keys, topics
from lakehouse.contracts import bronze, gold, silver
from lakehouse.contracts.silver import BY_KIND, TOKEN_COLUMNS
from lakehouse.crypto import Digests
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.single import read
from lakehouse.storage import ensure
from lakehouse.tables import Column, Table
from tests.audit.literal import LANDED, default, moment, secret, token, typed
from tests.lakehouse.records import T0, raw, raw_by_older, record

LIVE_FROM = 40
"""Offset from which an engine decides."""
ENDS = (
    *(("t104", "approved"), ("t105", "declined"), ("t106", "expired"), ("t102", "approved")),
    *(("t104", "declined"), ("t1", "approved"), ("nobody", "approved"), ("t109", "expired")),
)
"""How challenges ended: of t102, which the API answered too; of t104 twice; of t1, whose id a conflict has taken; of
t109, which the API had approved."""
MEANT = {"approved": "approve", "declined": "decline", "expired": "decline"}
ON_A_LOWER_RUNG, AT_THE_CAP = "t107", "t108"
"""Payments that the engine scored otherwise than the batch, rightly: without an anomaly model, from another vector."""
FEATURES = ("amount_minor", "hour_utc", "card_count_24h", "merchant_count_7d")
SET = "f" * 16
MODEL = "ab" * 32
DAY = date(2026, 3, 1)

NAMED = Table(
    name="gold.features",
    meaning=gold.FEATURES.meaning,
    grain=gold.FEATURES.grain,
    key=gold.FEATURES.key,
    columns=(*gold.FEATURES.columns, *(Column(name, "float", "a feature", nullable=True) for name in FEATURES)),
    event_time="event_time",
)
_LEFT_OUT = (silver.REPAIRS, silver.ERASURE_REPORT)
_LOOKED_AT = (*bronze.TABLES, *silver.TABLES, gold.VECTORS, NAMED, gold.SCORES, gold.DECISIONS)
TABLES = {table.name: table for table in _LOOKED_AT if table not in _LEFT_OUT}


def events():
    """(kind, fields, what becomes of it, first offset) of the records of topic `events`, in their order.

    What cannot be decoded has its bytes in the place of fields.
    """
    sent = [("control", {}, "accepted", None)]

    def pay(number, **changes):
        return {
            "transaction_id": f"t{number}",
            "amount_minor": 1000 + 7 * number,
            "customer_id": f"C-{number % 5}",
            "merchant_id": f"M-{number % 3}",
            "received_at": T0 + 1000 * len(sent),
            "event_time": T0 + 1000 * len(sent) - 500,
            **changes,
        }

    for number in range(1, 16):
        sent.append(("payment", pay(number), "accepted", None))
        if number % 2:
            fields = {"transaction_id": f"t{number}", "received_at": T0 + 1000 * len(sent)}
            sent.append(("authorisation", fields, "accepted", None))
        if number % 4 == 0:
            fields = {"label_id": f"l{number}", "transaction_id": f"t{number}", "amount_minor": 900 + number}
            sent.append(("label", fields, "accepted", None))
    first = next(at for at, one in enumerate(sent) if one[0] == "payment")
    content = sent[first][1]
    sent.append(("payment", pay(90, channel="fax"), "channel_known", None))
    sent.append(("payment", pay(91, currency="XXX"), "currency_known", None))
    sent.append(("payment", {**content, "received_at": T0 + 99_000}, "duplicate", first))
    sent.append(("payment", {**content, "received_at": T0 + 99_500}, "duplicate", first))
    sent.append((None, b"\0\0\0\0\x63unknown", "unknown_schema_id", None))
    sent.append((None, b"no prefix", "not_in_confluent_wire_format", None))
    sent.append(("payment", raw("payment")[:-2], "undecodable_short", None))
    sent.append(("payment", {**content, "amount_minor": 5}, "conflict", first))
    while len(sent) < LIVE_FROM:
        sent.append(("payment", pay(len(sent)), "accepted", None))
    for number in range(100, 115):
        sent.append(("payment", pay(number, amount_minor=50_000 + number), "accepted", None))
    sent.append(("payment", pay(190, channel="fax"), "channel_known", None))
    sent.append(("payment", {**content, "amount_minor": 6}, "conflict", first))
    again = next(at for at, one in enumerate(sent) if one[1] == sent[LIVE_FROM][1])
    sent.append(("payment", {**sent[again][1], "received_at": T0 + 99_900}, "duplicate", again))
    for number in (1, 2):
        sent.append(("answer", {"answer_id": f"a{number}", "transaction_id": f"t{100 + number}"}, "accepted", None))
        sent.append(("erasure", {"erasure_id": f"e{number}", "customer_id": f"C-{number}"}, "accepted", None))
        sent.append(("staged", {"staged_id": f"s{number}", "epoch": number}, "accepted", None))
    approved = {"answer_id": "a3", "transaction_id": "t109", "outcome": "approve"}
    sent.append(("answer", approved, "accepted", None))
    for number, (name, result) in enumerate(ENDS):
        fields = {"outcome_id": f"o{number}", "transaction_id": name, "result": result}
        sent.append(("outcome", fields, "accepted", None))
    sent.append(("control", {"control_id": "c2", "version": 2}, "accepted", None))
    return sent


class LittleLake:
    """The topics of a world, and its tables below the lake root of its settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.root = settings, settings.lake.root
        topics.ensure(settings)
        self.digests = Digests(keys.source(settings).keyring())
        self.id = {topic: topics.identify(settings, topic).topic_id for topic in topics.TOPICS}
        self.events = events()
        self.values = [self._value(kind, fields) for kind, fields, _, _ in self.events]
        self.fields = {
            offset: record(kind, **fields)
            for offset, (kind, fields, _, _) in enumerate(self.events)
            if isinstance(fields, dict)
        }
        self.rows = {name: [] for name in TABLES}
        self._events()
        self._decisions()
        self._shadow()
        for name, rows in self.rows.items():
            self._write(TABLES[name], rows)

    def _value(self, kind, fields):
        if kind == "staged" and fields["epoch"] == 1:
            return raw_by_older(1, kind, **fields)
        return fields if isinstance(fields, bytes) else raw(kind, **fields)

    def _sent(self, topic, values):
        """The values on a topic, as (offset, value, broker time)."""
        writer = broker.producer(self.settings, linger_ms=5)
        name = topics.topic_name(self.settings, topic)
        for value in values:
            writer.produce(name, value, partition=0)
        assert writer.flush(20) == 0
        found = broker.read_range(self.settings, name, 0, 0, len(values))
        return [(m.offset(), m.value(), moment(m.timestamp()[1])) for m in found]

    def _landed(self, topic, offset, value, broker_time):
        framed = len(value) >= 5 and value[0] == 0
        return {
            **self._position(topic, offset),
            "broker_time": broker_time,
            "schema_id": int.from_bytes(value[1:5], "big") if framed else None,
            "record_bytes": len(value),
            "payload_digest": self.digests.payload(value),
            "sealed": (secret("sealed", offset) * 100)[: len(value) + 7 + 28],
            "sealing_key": f"bronze|{DAY}|g1",
            "ingested_at": LANDED,
            "ingest_date": DAY,
        }

    def _position(self, topic, offset):
        return {"topic_id": self.id[topic], "partition": 0, "offset": offset}

    def _events(self):
        clock = 0
        for offset, value, broker_time in self._sent(topics.EVENTS, self.values):
            kind, _, fate, first = self.events[offset]
            landed = self._landed(topics.EVENTS, offset, value, broker_time)
            self.rows["bronze.events"].append(landed)
            if fate == "accepted":
                clock = max(clock, self.fields[offset]["received_at"])
                self._accepted(offset, kind, clock)
                continue
            row = {
                **landed,
                "kind": kind,
                "first_offset": first,
                "content_digest": None if first is None else self._content(offset if fate == "conflict" else first),
                "first_content_digest": None if first is None else self._content(first),
                "reasons": [fate],
            }
            self.rows["silver.duplicates" if fate == "duplicate" else "silver.quarantine"].append(row)
        self._balance(0, 30)
        self._balance(30, len(self.values))

    def _balance(self, start, end):
        fates = [fate for _, _, fate, _ in self.events[start:end]]
        accepted, duplicates = fates.count("accepted"), fates.count("duplicate")
        self.rows["silver.balance"].append(
            {
                **self._position(topics.EVENTS, end - 1),
                "start_offset": start,
                "received": end - start,
                "accepted": accepted,
                "quarantined": end - start - accepted - duplicates,
                "duplicates": duplicates,
                "engine_clock": LANDED,
            }
        )

    def _content(self, offset):
        return secret("content", offset)

    def _masked(self, offset, table):
        """What a table carries of a record: fields as they are, tokens for persons."""
        fields, out = self.fields[offset], {}
        for column in table.columns:
            if column.name in fields:
                out[column.name] = typed(column, fields[column.name])
        for name, (column, kind) in TOKEN_COLUMNS.items():
            if name in fields:
                out[column] = token(kind, fields[name])
        return out

    def _accepted(self, offset, kind, clock):
        table = BY_KIND[kind]
        row = {
            **self._position(topics.EVENTS, offset),
            **self._masked(offset, table),
            "engine_clock": moment(clock),
            "content_digest": self._content(offset),
            "payload_digest": self.digests.payload(self.values[offset]),
            "ingested_at": LANDED,
        }
        if kind == "payment":
            row["amount_base_minor"] = self.fields[offset]["amount_minor"]
        self.rows[table.name].append(row)
        if kind == "payment":
            self._paid(offset, row)

    def vector(self, offset):
        """The features of a payment; one is missing now and then."""
        amount = self.fields[offset]["amount_minor"]
        return [float(amount), offset / 3, float("nan") if offset % 4 == 0 else offset / 7, -1.5 * offset]

    def _paid(self, offset, row):
        payment = {name: row[name] for name in ("topic_id", "partition", "offset", "transaction_id", "event_time")}
        vector = self.vector(offset)
        self.rows["features.vectors"].append({**payment, "feature_set": SET, "vector": vector})
        named = {n: None if np.isnan(v) else v for n, v in zip(FEATURES, vector, strict=True)}
        self.rows["gold.features"].append({**payment, "feature_set": SET, **named})
        self.rows["gold.scores"].append({**payment, "model_digest": MODEL, **self._score(offset)})

    def _score(self, offset):
        score = offset / 100
        return {"score": score, "score_xgboost": score / 2, "score_isolation_forest": score / 3, "risk": "low"}

    def _decision(self, offset, epoch):
        _, _, fate, _ = self.events[offset]
        fields = self.fields[offset]
        accepted = fate == "accepted"
        vector = np.array(self.vector(offset), "<f4").tobytes()
        only_accepted = {
            "amount_base_minor": fields["amount_minor"],
            "feature_set": SET,
            "vector": vector,
            "model_digest": MODEL,
            **self._score(offset),
        }
        name = fields["transaction_id"]
        if name == ON_A_LOWER_RUNG:
            only_accepted |= {"rung": "without_anomaly", "score": 0.07, "score_isolation_forest": None}
        if name == AT_THE_CAP:
            only_accepted |= {"rung": "state_capped", "score": 0.08, "vector": bytes(len(vector))}
        return {
            **self._position(topics.EVENTS, offset),
            "decision_id": secret("decision", offset).hex(),
            "transaction_id": name,
            "event_time": fields["event_time"],
            "received_at": fields["received_at"],
            "outcome": ("approve", "review")[offset % 2] if accepted else "rejected",
            "rejected_by": [] if accepted else [fate],
            "card_token": token("card", fields["card_number"]),
            "customer_token": token("customer", fields["customer_id"]),
            "merchant_id": fields["merchant_id"],
            "payload_digest": self.digests.payload(self.values[offset]),
            "content_digest": self._content(offset),
            "epoch": epoch,
            **(only_accepted if accepted else dict.fromkeys(only_accepted)),
        }

    def _decisions(self):
        live = [
            offset
            for offset, (kind, _, fate, _) in enumerate(self.events)
            if offset >= LIVE_FROM and kind == "payment" and fate != "duplicate"
        ]
        half = live[: len(live) // 2]
        second = 1 + len(half)
        start = {"topic_id": self.id[topics.EVENTS], "next_offset": LIVE_FROM}
        sent = [("engine_start", start), *(("decision", self._decision(offset, 0)) for offset in half)]
        sent.append(("engine_start", {**start, "engine_id": "x2", "next_offset": half[-1]}))
        # The second engine decides one again; the first one wakes up and decides one more.
        sent += [("decision", self._decision(offset, second)) for offset in live[len(half) - 1 :]]
        sent.append(("decision", self._decision(live[-1], 0)))
        # Reasons follow a decision; they are in bronze, and no table of decisions takes them for one.
        sent.append(("reasons", {"offset": live[0]}))
        # The first engine was of an older release.
        values = [
            raw_by_older(2, kind, **fields) if kind == "decision" and not fields["epoch"] else raw(kind, **fields)
            for kind, fields in sent
        ]
        answers = {f["transaction_id"]: f["outcome"] for o, f in self.fields.items() if self.events[o][0] == "answer"}
        ends = dict(reversed(ENDS))
        known = set()
        for offset, value, broker_time in self._sent(topics.DECISIONS, values):
            self.rows["bronze.decisions"].append(self._landed(topics.DECISIONS, offset, value, broker_time))
            kind, changes = sent[offset]
            if kind != "decision" or changes["offset"] in known:
                continue
            known.add(changes["offset"])
            found = record(kind, **changes)
            row = {c.name: typed(c, found[c.name]) for c in silver.DECISIONS.columns if c.name in found}
            row |= {f"decision_{name}": value for name, value in self._position(topics.DECISIONS, offset).items()}
            self.rows["silver.decisions"].append({**row, "ingested_at": LANDED})
            takes = row["outcome"] != "rejected"
            answered, ended = (said.get(row["transaction_id"]) if takes else None for said in (answers, ends))
            self.rows["gold.decisions"].append(
                {
                    **row,
                    "decided_outcome": row["outcome"],
                    "answered_outcome": answered,
                    "challenge_result": ended,
                    "effective_outcome": "approve"
                    if (answered, ended) == ("approve", "expired")
                    else MEANT.get(ended) or answered or row["outcome"],
                }
            )

    def _shadow(self):
        paid = [
            offset for offset, (kind, _, fate, _) in enumerate(self.events) if (kind, fate) == ("payment", "accepted")
        ]
        live = [offset for offset in paid if offset >= LIVE_FROM]
        # An engine that began again repeats what it said, and says what it had passed over.
        said = [*live[:4], live[5], *live[3:]]
        values = [
            raw(
                "shadow",
                **self._position(topics.EVENTS, offset),
                **{name: self.fields[offset][name] for name in ("transaction_id", "event_time")},
                amount_base_minor=self.fields[offset]["amount_minor"],
                scoring_us=float(number),
            )
            for number, offset in enumerate(said)
        ]
        known = set()
        for offset, value, broker_time in self._sent(topics.SHADOW, values):
            self.rows["bronze.shadow"].append(self._landed(topics.SHADOW, offset, value, broker_time))
            if said[offset] in known:
                continue
            known.add(said[offset])
            found = read(registry().latest("shadow"), value)
            row = {c.name: typed(c, found[c.name]) for c in silver.SHADOW.columns if c.name in found}
            row |= {f"shadow_{name}": value for name, value in self._position(topics.SHADOW, offset).items()}
            self.rows["silver.shadow"].append({**row, "ingested_at": LANDED})

    def _write(self, table: Table, rows):
        ensure(self.root, table)
        path = table.path(self.root)
        schema = pa.schema(DeltaTable(path).schema())
        columns = {c.name: [r[c.name] if c.name in r else default(c) for r in rows] for c in table.columns}
        made = pa.table(
            {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema=schema
        )
        topic, last = topics.EVENTS, len(self.values)
        if table.name in ("bronze.decisions", "silver.decisions"):
            topic, last = topics.DECISIONS, len(self.rows["bronze.decisions"])
        if table.name in ("bronze.shadow", "silver.shadow"):
            topic, last = topics.SHADOW, len(self.rows["bronze.shadow"])
        told = json.dumps({"fraudlake_positions": {f"{self.id[topic]}/0": last}})
        properties = CommitProperties(custom_metadata={"userMetadata": told})
        write_deltalake(path, made, mode="append", commit_properties=properties)


def arguments(settings: Settings, root: str | Path | None = None):
    """The command line that looks at a world, or at a copy of its lake."""
    folder = Path(settings.keys.folder)
    return [
        *("--bootstrap-servers", settings.kafka.bootstrap_servers, "--lake", str(root or settings.lake.root)),
        *("--events", topics.topic_name(settings, topics.EVENTS)),
        *("--decisions", topics.topic_name(settings, topics.DECISIONS)),
        *("--shadow", topics.topic_name(settings, topics.SHADOW)),
        *("--digest-key", str(folder / "keyring.json"), "--json"),
    ]

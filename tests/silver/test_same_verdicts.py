"""Silver on Spark and admission in memory accept, refuse and pass over the same of ten thousand fuzzed records."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from lakehouse import broker as log
from lakehouse import keys, signing, topics
from lakehouse.contracts import silver as tables
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.registry import registry
from lakehouse.topics import EVENT_KINDS
from tests.conftest import NewContext, NewSettings
from tests.expectations.intake import Verdict, admitted
from tests.expectations.worlds import fresh
from tests.lakehouse.avro import plain
from tests.lakehouse.records import CARD, DAY, HOUR, OTHER_CARD, REFERENCE, T0, raw, raw_control, signed
from tests.silver.conftest import Sent, land, produce, rows

RECORDS = 10_000
OTHERS = [kind for kind in EVENT_KINDS if kind != "control"]
IDS = {kind: BY_KIND[kind].key[0] for kind in EVENT_KINDS}
ODD: dict[str, tuple[Any, ...]] = {
    "string": (
        "",
        "\x00",
        "EUR",
        "GBP",
        "XXX",
        "5411",
        "5411\n",
        "٥٤١١",
        "FR",
        "fr",
        "x" * 64,
        "é" * 65,
        CARD,
        OTHER_CARD,
    ),
    "boolean": (True, False),
    "int": (0, 1, 3, -1, 900, 20_000, 2**31 - 1, -(2**31)),
    "long": (0, 1, -1, 10**11, 10**11 + 1, 2**62, -(2**63), 2**63 - 1),
    "double": (0.0, 1.0, 1.01, -0.5, 91.0, float("nan"), float("inf")),
    "bytes": (b"", b"x" * 64),
}


class Fuzz:
    """Draws records of every kind: good ones, repeats, conflicts, odd values, damaged bytes."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._draw = random.Random(f"{seed} verdicts")
        self._sent: list[bytes] = []
        self._now = T0
        first = signed(folder)
        tables = {**REFERENCE, "rates_micro": {"EUR": 1_000_000, "GBP": 1_150_000, "USD": 900_000}}
        second = signed(folder, payload=tables, version=2, previous_digest=first.digest, control_id="c2")
        third = signed(folder, version=3, previous_digest=second.digest, control_id="c3")
        model = signed(folder, "model", {"digest": "ab" * 32}, control_id="c4")
        unsigned = signed(folder, version=2, previous_digest=first.digest, control_id="c5", approver_signature=b"")
        early = signed(folder, "model", {"digest": "cd" * 32}, control_id="c6")
        self._controls = [first, first, early, unsigned, third, second, model, first, third, second]

    def log(self) -> list[bytes]:
        """The records of a log."""
        every = RECORDS // len(self._controls)
        for number in range(RECORDS):
            if number % every == 50 and self._controls:
                record = raw_control(self._controls.pop(0), received_at=self._now)
            else:
                record = self._record()
            self._sent.append(record)
        return self._sent

    def _record(self) -> bytes:
        draw = self._draw
        # Ids come again before and after the horizon; now and then somebody's clock is far off.
        self._now += draw.choice((0, 0, 1000, 60_000, HOUR // 4))
        # The first record has none before it to repeat or to damage.
        match draw.randrange(20) if self._sent else 3:
            case 0:
                return draw.choice(self._sent)
            case 1:
                return self._damaged(draw.choice(self._sent))
            case 2:
                return draw.choice(
                    (b"", b"{}", raw("engine_start"), raw("decision"), b"\x00\x00\x00\x00\x63x", draw.randbytes(40))
                )
        kind = draw.choice(("payment", "payment", "payment", *OTHERS))
        received = self._now + draw.choice((0, 0, 0, -HOUR, -49 * HOUR))
        changes: dict[str, Any] = {IDS[kind]: f"{kind[0]}{draw.randrange(900)}", "received_at": received}
        if kind in ("payment", "authorisation", "label"):
            changes["event_time"] = received - draw.choice((0, 1000, DAY))
        if kind == "payment":
            changes["currency"] = draw.choice(("EUR", "USD", "USD", "GBP"))
            changes["amount_minor"] = draw.randrange(100)
        if kind == "label":
            changes["label_available_at"] = received + draw.choice((0, DAY, -DAY))
        for field in draw.sample(registry().latest(kind).parsed["fields"], draw.choice((0, 0, 0, 1, 1, 3))):
            if field["name"] == "received_at" and draw.randrange(3):
                continue
            changes[field["name"]] = self._odd(plain(field["type"]))
        return raw(kind, **changes)

    def _odd(self, declared: Any) -> Any:
        if isinstance(declared, list):
            return None if self._draw.randrange(3) == 0 else self._odd(declared[1])
        return self._draw.choice(ODD[declared])

    def _damaged(self, record: bytes) -> bytes:
        draw, out = self._draw, bytearray(record)
        match draw.randrange(4):
            case 0:
                return bytes(out[: draw.randrange(len(out) + 1)])
            case 1:
                return bytes(out) + draw.randbytes(draw.randrange(1, 5))
            case 2 if out:
                out[draw.randrange(min(5, len(out)))] ^= 1 << draw.randrange(8)
            case _:
                for _ in range(draw.choice((1, 1, 2, 8)) if out else 0):
                    out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
        return bytes(out)


@pytest.fixture(scope="module")
def verdicts(
    broker: str,
    new_settings: NewSettings,
    context: NewContext,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Verdict], list[Verdict]]:
    """Of every record what silver says, in two batches, and what admission in memory says, in one."""
    settings = new_settings(tmp_path_factory.mktemp("fuzz"))
    settings = settings.model_copy(update={"silver": settings.silver.model_copy(update={"batch_records": 6_000})})
    records = Fuzz(seed, settings.keys.folder).log()
    topics.ensure(settings)
    produce(settings, topics.EVENTS, [Sent(record) for record in records])
    now = context(settings)
    land(now)

    by_silver: dict[int, Verdict] = {}
    for table in BY_KIND.values():
        for row in rows(now.root, table):
            assert row["offset"] not in by_silver
            by_silver[row["offset"]] = Verdict("accepted")
    for row in rows(now.root, tables.QUARANTINE):
        assert row["offset"] not in by_silver
        reasons = tuple(row["reasons"]) if row["kind"] else ("of no kind of this topic",)
        by_silver[row["offset"]] = Verdict(
            "quarantined", reasons, -1 if row["first_offset"] is None else row["first_offset"]
        )
    for row in rows(now.root, tables.DUPLICATES):
        assert row["offset"] not in by_silver
        by_silver[row["offset"]] = Verdict("duplicate", (), row["first_offset"])

    messages = log.read_range(settings, topics.topic_name(settings, topics.EVENTS), 0, 0, RECORDS)
    in_memory = admitted(
        fresh(signing.trust(settings.keys.folder)),
        [message.value() or b"" for message in messages],
        [message.timestamp()[1] for message in messages],
        Digests(keys.source(settings).keyring()),
    )
    assert sorted(by_silver) == list(range(RECORDS))
    return [by_silver[offset] for offset in range(RECORDS)], in_memory


def test_every_record_gets_the_same_verdict_for_the_same_reasons(
    verdicts: tuple[list[Verdict], list[Verdict]],
) -> None:
    by_silver, in_memory = verdicts
    different = {
        at: (one, other) for at, (one, other) in enumerate(zip(by_silver, in_memory, strict=True)) if one != other
    }
    assert different == {}


def test_the_fuzz_reaches_every_verdict(verdicts: tuple[list[Verdict], list[Verdict]]) -> None:
    by_silver, _ = verdicts
    status = Counter(verdict.status for verdict in by_silver)
    assert min(status[name] for name in ("accepted", "quarantined", "duplicate")) > 200, status
    reasons = Counter(reason.split(":")[0] for verdict in by_silver for reason in verdict.reasons)
    wanted = {
        "conflict",
        "currency_without_rate",
        "no_reference_in_force",
        "control_refused",
        "of no kind of this topic",
    }
    wanted |= {"card_well_formed", "received_at_not_ahead", "confidence_required", "undecodable_ends_too_early"}
    assert wanted <= set(reasons), orjson.dumps(reasons, option=orjson.OPT_INDENT_2).decode()

"""A suite that cannot be evaluated stops silver before it moves: the real job, from a damaged copy of the code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bronze.job
import silver.job
from expectations.suites import evaluable
from lakehouse import settings as conf
from lakehouse import storage, topics
from lakehouse.contracts import silver as tables
from lakehouse.errors import ContractBroken
from lakehouse.settings import Settings
from tests.conftest import NewContext
from tests.lakehouse.records import raw, raw_control, signed
from tests.silver.conftest import Sent, land, produce, rows

Damage = Callable[[Path], None]


def broken_json(folder: Path) -> None:
    path = folder / "suites" / "silver.payments.json"
    path.write_text(path.read_text()[:-10])


def unknown_expectation(folder: Path) -> None:
    path = folder / "suites" / "silver.payments.json"
    content = json.loads(path.read_text())
    content["expectations"][0]["type"] = "expect_column_values_to_be_lucky"
    path.write_text(json.dumps(content))


def digest_out_of_step(folder: Path) -> None:
    path = folder / "predicates" / "silver.payments.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "contract": "0" * 64}))


DAMAGES: dict[Damage, str] = {
    broken_json: "suites/silver.payments.json cannot be read (JSONDecodeError), so silver.payments cannot be judged.",
    unknown_expectation: (
        "The suite of silver.payments has expectations of no rule of the contract: expect_column_values_to_be_lucky."
    ),
    digest_out_of_step: "predicates/silver.payments.json was not compiled from today's contract.",
}


def copied(folder: Path) -> Path:
    """The code that silver needs, in a folder of its own."""
    for name in ("lakehouse", "expectations", "silver", "conf"):
        shutil.copytree(conf.home() / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def ran(settings: Settings, code: Path) -> subprocess.CompletedProcess[str]:
    """One scheduled run of silver over the world, from that code."""
    environment = {
        **os.environ,
        "FRAUDLAKE__KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "FRAUDLAKE__LAKE__ROOT": settings.lake.root,
        "FRAUDLAKE__SPARK__JARS_FOLDER": str(conf.resolve(settings.spark.jars_folder)),
        "PYTHONPATH": str(code),
    }
    return subprocess.run(
        [sys.executable, "-m", "silver.job", "--available-now"],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_suite_that_cannot_be_evaluated_does_not_advance_the_positions(
    broker: str, settings: Settings, context: NewContext, tmp_path: Path
) -> None:
    topics.ensure(settings)
    now = context(settings)
    first = (raw_control(signed(settings.keys.folder)), raw("payment", transaction_id="t1"))
    produce(settings, topics.EVENTS, [Sent(value) for value in first])
    land(now)
    produce(settings, topics.EVENTS, [Sent(raw("payment", transaction_id=name)) for name in ("t2", "t3")])
    bronze.job.run(now)
    ends = storage.written_ends(now.root, tables.BALANCE)
    assert list(ends.values()) == [2]
    versions = {table.name: storage.version(now.root, table) for table in tables.TABLES}
    for number, (damage, complaint) in enumerate(DAMAGES.items()):
        code = copied(tmp_path / f"code{number}")
        damage(code / "expectations")
        done = ran(settings, code)
        assert (done.returncode, complaint in done.stderr) == (1, True), done.stderr[-2000:]
        assert "`make generate`" in done.stderr
        assert "Traceback" not in done.stderr
        assert storage.written_ends(now.root, tables.BALANCE) == ends
        assert {table.name: storage.version(now.root, table) for table in tables.TABLES} == versions
    silver.job.run(now)
    assert list(storage.written_ends(now.root, tables.BALANCE).values()) == [4]
    assert [row["transaction_id"] for row in rows(now.root, tables.PAYMENTS)] == ["t1", "t2", "t3"]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("table", tables.BY_KIND.values(), ids=lambda table: table.name)
def test_damage_to_one_table_leaves_the_others_evaluable(table: tables.Table, damage: Damage, tmp_path: Path) -> None:
    folder = copied(tmp_path) / "expectations"
    damage(folder)
    if table is tables.PAYMENTS:
        with pytest.raises(ContractBroken):
            evaluable(table, folder)
    else:
        assert list(evaluable(table, folder)) == [rule.name for rule in table.rules]


@pytest.mark.parametrize("what", ["suites", "predicates"])
def test_a_lacking_file_and_one_of_another_shape_are_broken_contracts(what: str, tmp_path: Path) -> None:
    folder = copied(tmp_path) / "expectations"
    path = folder / what / "silver.payments.json"
    for text in ("[]", "null", '"x"', '{"expectations": [1]}', "{}"):
        path.write_text(text)
        with pytest.raises(ContractBroken):
            evaluable(tables.PAYMENTS, folder)
    path.unlink()
    with pytest.raises(ContractBroken, match=r"cannot be read \(FileNotFoundError\)"):
        evaluable(tables.PAYMENTS, folder)

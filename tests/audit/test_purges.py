"""A sealed record that is empty was purged on record, or it vanished."""

import json
import shutil
from datetime import UTC, datetime

import pytest
from deltalake import DeltaTable

from lakehouse import delta, topics
from lakehouse.contracts.lake import PURGES
from tests.audit.literal import token
from tests.audit.little_lake import TABLES


@pytest.fixture
def emptied(lake, tmp_path):
    """A copy of the lake in which some records are empty."""
    root = shutil.copytree(lake.root, tmp_path / "lake")

    def made(*offsets):
        for name in ("bronze.events", "silver.quarantine"):
            DeltaTable(TABLES[name].path(str(root))).update(
                {"sealed": "X''"}, predicate=f"`offset` in ({', '.join(map(str, offsets))})"
            )
        return root

    return made


def asked(lake, root, erasure_id, *offsets):
    """Enter purges."""
    at = {"topic_id": lake.id[topics.EVENTS], "partition": 0, "place": "bronze.events"}
    told = {**at, "erasure_id": erasure_id, "asked_at": datetime(2026, 3, 2, tzinfo=UTC)}
    delta.append(str(root), PURGES, [{**told, "offset": offset} for offset in offsets])


def refused_at(lake):
    """Where a refused record lies."""
    return lake.rows["silver.quarantine"][0]["offset"]


def told(found):
    """The findings, short."""
    return [(f["tables"], f["fact"], f["examples"], f["repair"]) for f in found["findings"]]


@pytest.mark.parametrize("more", [(), ("--without-topics",)], ids=["with topics", "without"])
def test_what_was_purged_on_record_is_no_finding(lake, look, emptied, more):
    offsets = (5, refused_at(lake))
    root = emptied(*offsets)
    asked(lake, root, "e1", *offsets)
    code, found = look(root, *more)
    assert (code, told(found)) == (0, [])
    assert next(line for hop in found["hops"] for line in hop["tables"] if line["table"] == "bronze.events")[
        "rows"
    ] == len(lake.events)


@pytest.mark.parametrize("more", [(), ("--without-topics",)], ids=["with topics", "without"])
def test_what_vanished_without_a_purge_or_for_an_erasure_that_never_was_is_found(lake, look, emptied, more):
    root = emptied(5)
    repair = "python -m bronze.job --from-position 5 --to-position 6"
    expected = [(["bronze.events"], "sealed record", [{"offset": 5}], repair)]
    assert told(look(root, *more)[1]) == expected
    asked(lake, root, "nobody's", 5)
    assert told(look(root, *more)[1]) == expected


@pytest.mark.parametrize("of_another", ["payment of another customer", "repeat of it", "control event"])
def test_what_a_purge_names_of_somebody_else_vanished(lake, look, emptied, of_another):
    others = [
        row["offset"] for row in lake.rows["silver.payments"] if row["customer_token"] != token("customer", "C-1")
    ]
    offset = {
        "payment of another customer": others[0],
        "repeat of it": next(r["offset"] for r in lake.rows["silver.duplicates"] if r["first_offset"] in others),
        "control event": 0,
    }[of_another]
    root = emptied(offset)
    asked(lake, root, "e1", offset)
    assert [one[:3] for one in told(look(root)[1])] == [(["bronze.events"], "sealed record", [{"offset": offset}])]


def test_what_repeats_a_record_of_the_erased_customer_goes_with_it(lake, look, emptied):
    first = next(row["offset"] for row in lake.rows["silver.payments"])
    offset = next(row["offset"] for row in lake.rows["silver.duplicates"] if row["first_offset"] == first)
    root = emptied(first, offset)
    asked(lake, root, "e1", first, offset)
    assert look(root)[0] == 0


def test_a_purge_is_judged_where_silver_has_no_table_of_repeats(lake, look, emptied):
    root = emptied(5)
    asked(lake, root, "e1", 5)
    for gone in (TABLES["silver.duplicates"].path(str(root)), f"{root}/_high_water"):
        shutil.rmtree(gone)
    assert {tuple(f["tables"]) for f in look(root)[1]["findings"]} == {("silver.duplicates",)}


def test_a_purge_that_has_not_ended_is_found_with_the_command_that_ends_it(lake, look, emptied):
    root = emptied(5)
    asked(lake, root, "e1", 5, 7)
    assert json.dumps(told(look(root)[1])) == json.dumps(
        [
            (
                ["bronze.events"],
                "purged record",
                [{"offset": 7}],
                "python -m silver.erasure purge --erasure-id ID   # ID: lake.purges has it by position",
            )
        ]
    )

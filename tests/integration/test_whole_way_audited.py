"""The auditor, which shares no code with the pipeline, over the whole world of these tests: nothing is found."""

import shutil

from auditing import audited
from deltalake import DeltaTable

from lakehouse.contracts import gold, silver
from tests.calling import call, payment


def test_topics_and_tables_agree_from_the_first_record_to_the_last_outcome(history, engine, api):
    for number in range(3):
        assert call(history.settings, "POST", "/v1/decisions", payment(f"audited-{number}"))[0] == 200
    history.run_lake()
    code, found = audited(history)
    assert found["findings"] == []
    assert code == 0
    assert found["not_compared"] == []
    rows = {table["table"]: table["rows"] for hop in found["hops"] for table in hop["tables"]}
    assert rows["bronze.events"] == rows["topic events"] > 30_000
    assert rows["silver.payments"] == rows["features.vectors"] == rows["gold.features"] > 15_000
    assert rows["gold.decisions"] == rows["silver.decisions"] >= 3


def test_damage_to_a_copy_is_found_and_its_repair_named(history, tmp_path):
    root = tmp_path / "lake"
    shutil.copytree(history.settings.lake.root, root, ignore=shutil.ignore_patterns("_checkpoints"))
    payments = DeltaTable(gold.VECTORS.path(str(root))).to_pyarrow_table(columns=["offset"]).column("offset")
    last = max(payments.to_pylist())
    DeltaTable(gold.FEATURES.path(str(root))).delete(f"offset = {last}")
    at = next(o for o in sorted(payments.to_pylist()) if o >= 5000)
    DeltaTable(silver.PAYMENTS.path(str(root))).update({"amount_minor": "amount_minor + 1"}, predicate=f"offset = {at}")
    code, found = audited(history, "--lake", str(root))
    assert code == 1
    told = {(f["what"], f["tables"][0], f["from_offset"], f["repair"]) for f in found["findings"]}
    assert (
        "altered",
        "silver.payments",
        at,
        f"python -m silver.job --from-position {at} --to-position {at + 1}",
    ) in told
    repair = f"python -m gold.job --from-position {last} --to-position {last + 1}"
    assert ("lost", "gold.features", last, repair) in told

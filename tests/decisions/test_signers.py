"""Who may sign is what the file of trusted keys says when a control event comes, not what it said at the start."""

import shutil

import logs
import orjson
import pytest

from lakehouse import keys, signing


@pytest.fixture
def world(settings, tmp_path):
    """Settings whose keys are their own copy, so that a test may change who is trusted."""
    folder = tmp_path / "keys"
    shutil.copytree(logs.keys_folder(settings), folder)
    return settings.model_copy(update={"keys": settings.keys.model_copy(update={"folder": folder})})


def without_latest(folder, key_id):
    """Trust a key no more."""
    path = folder / signing.TRUSTED
    entries = orjson.loads(path.read_bytes())
    del entries[key_id]
    keys.write_private(path, orjson.dumps(entries))


def version(engine):
    return engine.state.admission.in_force.versions["reference"].version


def test_a_key_that_is_added_or_taken_away_while_the_engine_runs_counts_from_the_next_event_on(world):
    versions, folder = {}, logs.keys_folder(world)
    engine = logs.engine(world)

    def sends(offset):
        record = logs.control(world, versions, "reference", logs.reference())
        engine.decide(logs.messages([record], offset))

    sends(0)
    assert version(engine) == 1
    (folder / "approver.pem").unlink()
    keys.create(folder)
    sends(1)
    assert version(engine) == 2, "signed by the approver's new key"
    latest = signing.signer(folder / "approver.pem").key_id
    without_latest(folder, latest)
    sends(2)
    assert version(engine) == 2
    assert engine.refused == [f"offset 2: control_refused: The approver's signature by {latest} does not verify."]

"""Decisions made again from the log are the ones that were given, to the byte, through changes of what is in force."""

import base64
import json
import shutil
import subprocess
import sys

import deciding
import orjson
import pytest
from conftest import wait_until

from decisions import control
from lakehouse import settings as conf
from lakehouse.keys import KEYRING, write_private
from lakehouse.signing import trust
from tests.calling import call, payment


def replayed(world, *arguments, **environment):
    """(exit code, report, standard error) of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "decisions.replay", "--json", *arguments],
        env={**world.environment(), **environment},
        cwd=conf.home(),
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def decided(history, engine, api):
    """Offsets of payments that were decided before and after new reference tables came into force."""
    settings, keys = history.settings, conf.resolve(history.settings.keys.folder)
    active = control.in_force(settings, trust(keys))["reference"].payload
    offsets = []
    for name in ("before", "after"):
        for number in range(3):
            status, answer = call(settings, "POST", "/v1/decisions", payment(f"replayed-{name}-{number}"))
            assert status == 200
            offsets.append(answer["position"]["offset"])
        if name == "before":
            control.activate(settings, "reference", active + " ", keys / "author.pem", keys / "approver.pem")
    wait_until(lambda: set(offsets) <= set(deciding.counted(settings)))
    return offsets


def test_every_decision_is_made_again_to_the_byte(history, decided):
    code, found, error = replayed(history)
    assert code == 0, error[-2000:]
    assert found["given"] == found["equal"] == len(deciding.counted(history.settings))
    assert found["controls"] >= 2
    assert not found["not_made"] + found["not_given"]


def test_a_sample_is_the_newest_ones(history, decided):
    code, found, _ = replayed(history, "--sample", "2")
    assert (code, found["given"], found["equal"]) == (0, 2, 2)
    assert (found["start"], found["end"]) == (decided[-2], decided[-1] + 1)


def test_an_engine_that_computes_something_else_is_found_out(history, decided, tmp_path):
    keys = tmp_path / "keys"
    shutil.copytree(conf.resolve(history.settings.keys.folder), keys)
    keyring = orjson.loads((keys / KEYRING).read_bytes())
    other = base64.b64encode(bytes(range(32))).decode()
    write_private(keys / KEYRING, orjson.dumps({**keyring, "masters": dict.fromkeys(keyring["masters"], other)}))
    code, found, _ = replayed(history, "--sample", "3", FRAUDLAKE__KEYS__FOLDER=str(keys))
    assert code == 1
    assert (found["given"], found["equal"], found["differing"]) == (3, 0, 3)
    assert {"card_token", "customer_token", "payload_digest"} <= set(found["different"][str(decided[-1])])


def test_what_cannot_be_replayed_is_said(history, decided):
    code, _, error = replayed(history, "--from-position", str(decided[-1] + 1))
    assert code == 2
    assert "holds no decision of these offsets" in error

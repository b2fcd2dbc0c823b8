"""CONTRIBUTING's guide to adding a feature, followed to the letter: one entry, and the feature is everywhere."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from features.catalogue import NAMES, feature_set_hash
from lakehouse.settings import home

FOLLOWED = """
import json, sys
import numpy as np
from features.families import device
from features.feature import value

entry = eval(sys.stdin.read())
device.FEATURES = (*device.FEATURES, entry)

from features.catalogue import NAMES, feature_set_hash
from features.flow import Flow
from features.inputs import Placed
from features.records import PAID, empty
from features.reference import page
from features.state import Spec

seconds = np.array([0, 100, 300, 900])
records = empty(4)._replace(what=np.full(4, PAID, np.int8), event_ms=1_780_000_000_000 + seconds * 1000)
records.who[:] = 7
events = Placed(records, np.arange(4), records.event_ms)
nobody = Placed(empty(0), empty(0).event_ms, empty(0).event_ms)
vectors = Flow(Spec(7, 400, 1000)).take(events, nobody)
column = vectors[:, NAMES.index(entry.name)]
print(json.dumps({
    "names": NAMES, "hash": feature_set_hash(), "in_page": f"`{entry.name}`" in page(),
    "values": [None if np.isnan(x) else float(x) for x in column],
}))
"""


@pytest.fixture(scope="module")
def entry():
    """The entry that the guide shows."""
    guide = (home() / "CONTRIBUTING.md").read_text().split("## How to add a feature")[1]
    (block,) = re.findall(r"```python\n(.*?)```", guide.split("\n## ")[0], re.DOTALL)
    return block


def test_the_entry_of_the_guide_is_all_that_a_feature_needs(entry):
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED], input=entry, cwd=home(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    name = re.search(r'"(\w+)"', entry)[1]
    assert set(found["names"]) - set(NAMES) == {name}
    assert found["hash"] != feature_set_hash()
    assert found["in_page"]
    assert found["values"] == [None, None, 100.0, 150.0]


def test_the_guide_names_files_that_are_there(entry):
    assert "device" in entry
    for path in ("features/families/device.py", "features/statistics.py"):
        assert Path(home() / path).exists()

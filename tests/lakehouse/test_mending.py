"""A repair that is killed at any of its steps is found by the next one, and finished."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lakehouse import delta, high_water
from lakehouse.contracts.lake import PURGES
from lakehouse.crash import VARIABLE
from lakehouse.damage import look
from lakehouse.errors import TableDamaged
from lakehouse.jobs import Context
from lakehouse.repair import Repair
from lakehouse.settings import Settings, home
from tests.conftest import NewContext
from tests.filled import row

_MEND = """
import sys
from lakehouse import mending
from lakehouse.contracts.lake import PURGES
from lakehouse.damage import TO_THE_END, look
(found,) = look(sys.argv[1], PURGES)
mending.note(sys.argv[1], PURGES, {TO_THE_END: (0, 0)} if found.kind == "log" else found.offsets)
if found.kind == "log":
    mending.cut(sys.argv[1], PURGES, found.good)
else:
    mending.drop(sys.argv[1], PURGES, found.files)
"""


@pytest.fixture
def lake(context: NewContext, settings: Settings, tmp_path: Path) -> Context:
    """A lake with a table of three files of five rows, and a trail of its own."""
    own = settings.trail.model_copy(update={"folder": tmp_path / "trail", "heads_folder": tmp_path / "heads"})
    now = context(settings.model_copy(update={"trail": own}))
    for start in (0, 5, 10):
        delta.append(now.root, PURGES, [row(PURGES, offset) for offset in range(start, start + 5)])
    return now


def _cut_off(root: str) -> None:
    path = Path(PURGES.path(root)) / high_water.paths(DeltaTable(PURGES.path(root)))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(root: str) -> None:
    (Path(PURGES.path(root)) / high_water.commit_name(3)).write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "place", "found"),
    [
        (_cut_off, "high-water-beside", ["file"]),
        (_cut_off, "high-water-renamed", ["file", "unfinished"]),
        (_cut_off, "repair-files-dropped", ["unfinished"]),
        (_empty, "repair-log-cut", ["log", "unfinished"]),
    ],
)
def test_a_repair_killed_at_any_step_is_found_and_finished(
    lake: Context, damage: Callable[[str], None], place: str, found: list[str]
) -> None:
    root = lake.root
    damage(root)
    command = [sys.executable, "-c", _MEND, root]
    environment = {**os.environ, VARIABLE: place, "PYTHONPATH": str(home())}
    done = subprocess.run(command, env=environment, start_new_session=True, cwd=home())
    assert done.returncode == -signal.SIGKILL
    assert [finding.kind for finding in look(root, PURGES)] == found
    if "unfinished" in found:
        with pytest.raises(TableDamaged, match=high_water.UNFINISHED):
            delta.count(root, PURGES)
    Repair(lake, [].append).mend(look(root, PURGES))
    assert look(root, PURGES) == []
    assert delta.count(root, PURGES) == 10

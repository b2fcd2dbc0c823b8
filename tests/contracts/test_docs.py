"""What the documents name exists."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from lakehouse.contracts.register import TABLES
from lakehouse.settings import home

ROOT = home()
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
)
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_make_target_of_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", page.read_text()))
    assert named - TARGETS == set()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_module_of_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"python -m ((?:[a-z_]+\.)+[a-z_]+)", page.read_text()))
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_target_has_its_line_of_help() -> None:
    assert TARGETS - set(re.findall(r"^([a-z-]+):.*## .+", MAKEFILE, re.MULTILINE)) == set()


def test_every_room_has_its_page_and_every_table_its_meaning() -> None:
    rooms = {path.parent for path in ROOT.glob("*/__init__.py")} - {ROOT / "tests"}
    assert [room.name for room in rooms if not (room / "README.md").exists()] == []
    assert [name for name, table in TABLES.items() if not (table.meaning and table.grain)] == []

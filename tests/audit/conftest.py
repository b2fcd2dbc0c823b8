"""The little lake, once a run, and looking at it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from audit.__main__ import main
from tests.audit.little_lake import LittleLake, arguments
from tests.conftest import NewSettings

Look = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="session")
def lake(broker: str, new_settings: NewSettings, tmp_path_factory: pytest.TempPathFactory) -> LittleLake:
    """A lake without damage, and its topics."""
    return LittleLake(new_settings(tmp_path_factory.mktemp("little")))


@pytest.fixture
def look(lake: LittleLake, capsys: pytest.CaptureFixture[str]) -> Look:
    """Audits the little lake, or a copy of it; exit code and result."""

    def looked(root: object = None, *more: str) -> tuple[int, dict[str, Any]]:
        code = main([*arguments(lake.settings, root), *more])
        out, err = capsys.readouterr()
        assert code != 2, err
        return code, json.loads(out)

    return looked

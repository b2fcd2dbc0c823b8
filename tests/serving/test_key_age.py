"""An API whose master key is over its age is not ready, says why, and shows the age as a metric."""

import asyncio
import base64
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from lakehouse import key_age, keys
from lakehouse import settings as conf
from lakehouse.settings import Settings
from serving.app import create_app


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    base = conf.load()
    keys.create(tmp_path)
    return base.model_copy(update={"keys": base.keys.model_copy(update={"folder": tmp_path, "max_age_days": 90})})


Get = Callable[[str], tuple[int, str]]


@pytest.fixture
def get(settings: Settings) -> Get:
    """Status and body of the API, asked without a server; nobody reads topics, so nobody lags behind."""
    app = create_app(settings)
    app.state.replica = SimpleNamespace(readers=[])

    def asked(path: str) -> tuple[int, str]:
        said: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        line = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "query_string": b""}
        place = {"path": path, "raw_path": path.encode(), "root_path": "", "headers": []}
        asyncio.run(app({**line, **place, "asgi": {"version": "3.0"}}, receive, send))
        body = b"".join(message.get("body", b"") for message in said)
        return said[0]["status"], body.decode()

    return asked


def _made(settings: Settings, made_at: Mapping[str, str]) -> None:
    path = settings.keys.folder / keys.KEYRING
    content: dict[str, Any] = {**orjson.loads(path.read_bytes()), "made_at": made_at}
    keys.write_private(path, orjson.dumps(content))


def _ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_an_api_is_ready_while_its_master_key_is_young(settings: Settings, get: Get) -> None:
    assert get("/health/ready")[0] == 200
    _made(settings, {"1": _ago(89.9)})
    assert get("/health/ready")[0] == 200


def test_an_api_whose_master_key_is_too_old_is_not_ready_and_says_what_to_do(
    settings: Settings, get: Get, capsys: pytest.CaptureFixture[str]
) -> None:
    _made(settings, {"1": _ago(91.2)})
    status, body = get("/health/ready")
    assert status == 503
    assert orjson.loads(body)["detail"] == (
        "Master key version 1 is 91 days old, keys.max_age_days is 90. "
        "Rotate it: python -m lakehouse.keys rotate, then rewrap."
    )
    assert get("/health/live")[0] == 200
    key_age.warn_of_age(settings)
    said = capsys.readouterr()
    assert "Master key version 1 is 91 days old" in said.out + said.err
    assert keys.added(settings.keys.folder) == 2
    assert get("/health/ready")[0] == 200


def test_a_master_key_of_unknown_age_is_not_taken_for_a_young_one(settings: Settings, get: Get) -> None:
    _made(settings, {})
    status, body = get("/health/ready")
    assert status == 503
    assert "Nobody knows how old master key version 1 is" in orjson.loads(body)["detail"]


def test_the_age_is_a_metric(settings: Settings, get: Get) -> None:
    _made(settings, {"1": _ago(10)})
    lines = get("/metrics")[1].splitlines()
    (age,) = [float(line.split()[1]) for line in lines if line.startswith("fraudlake_sealing_key_age_seconds ")]
    assert abs(age - 10 * 86_400) < 60


def test_keys_of_the_environment_carry_their_date_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for name in [name for name in os.environ if name.startswith(keys.VARIABLE)]:
        monkeypatch.delenv(name)
    for version, fill in (("1", 1), ("2", 2)):
        monkeypatch.setenv(f"{keys.VARIABLE}{version}", base64.b64encode(bytes(range(fill, fill + 32))).decode())
    monkeypatch.setenv(f"{keys.VARIABLE}2_MADE_AT", "2026-01-31T12:00:00Z")
    ring = keys.from_environment()
    assert (key_age.age_s(ring, made + timedelta(days=1)), ring.token_version) == (86_400, 1)
    monkeypatch.setenv(keys.TOKENS, "2")
    assert keys.from_environment().token_version == 2
    monkeypatch.setenv(f"{keys.VARIABLE}2_MADE_AT", "yesterday")
    with pytest.raises(keys.KeysMissing, match="no ISO 8601 with its zone"):
        keys.from_environment()

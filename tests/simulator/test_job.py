import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.settings import home
from simulator.job import instant, main


@pytest.mark.parametrize("command", ["history --days 1", "live --seconds 1 --api-share 0"])
def test_without_a_broker_one_sentence_says_so_and_the_exit_code_is_1(command: str) -> None:
    nobody_listens = {
        "FRAUDLAKE__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "FRAUDLAKE__KAFKA__REQUEST_TIMEOUT_S": "1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "simulator.job", *command.split()],
        cwd=home(),
        env=os.environ | nobody_listens,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert re.fullmatch(
        r"BrokerUnavailable: The Kafka broker at 127\.0\.0\.1:1 does not answer \(\w+\)\. `make up` starts the local "
        r"one, `make status` shows it\.\n",
        ended.stderr,
    )
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("history --days 0", "SettingsError: --days is 0. It must be from 1 to 3,650."),
        ("history --end 2999-01-01", "in the future. It must not be later than now."),
        ("live --seconds 0", "SettingsError: --seconds is 0. It must be above 0."),
        ("live --api-share 1.5", "SettingsError: --api-share is 1.5. It must be from 0 to 1."),
        ("live", "--api-share is above 0 without --api-key-file. Name a key file, or set --api-share 0."),
        ("live --api-key-file /nowhere/key", "There is no key file /nowhere/key. `make keys` creates local keys."),
        ("replay --data /nowhere", "There is no /nowhere/transactions.parquet."),
        ("replay --data . --days 0", "SettingsError: --days is 0. It must be at least 1."),
        ("replay --data . --delay-days -1", "SettingsError: --delay-days is -1. It must be from 0 to 400."),
    ],
)
def test_wrong_options_end_with_a_sentence_and_code_1(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 1
    assert message in capsys.readouterr().err


def test_an_address_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("secret")
    assert main(["live", "--api-key-file", str(tmp_path / "key"), "--api-url", "localhost:8000"]) == 1
    said = capsys.readouterr().err
    assert "--api-url localhost:8000 is no http or https address." in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("live --seconds ten", "invalid float value: 'ten'"),
        ("history --seconds 5", "unrecognized arguments: --seconds"),
        ("replay", "the following arguments are required: --data"),
        ("history --end yesterday", "yesterday is no ISO 8601 time such as 2026-03-01T12:00:00Z"),
        ("", "the following arguments are required: command"),
    ],
)
def test_unknown_and_contradictory_options_are_explained(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("history", ["default 3500", "default 0.004", "real seconds", "eleven kinds", "environment"]),
        ("live", ["payments a real second", "role replay", "JSON lines, or Parquet"]),
        ("replay", ["400000", "round(100 x tx_amount)", "whole weeks", "default 7"]),
    ],
)
def test_help_names_units_and_defaults(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert [word for word in words if word not in help_text] == []


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-03-01T12:00:00Z", 1_772_366_400_000),
        ("2026-03-01T12:00:00", 1_772_366_400_000),
        ("2026-03-01T13:00:00.250+01:00", 1_772_366_400_250),
        ("2026-03-01", 1_772_323_200_000),
    ],
)
def test_times_are_iso_8601_and_utc_unless_they_say_otherwise(text: str, ms: int) -> None:
    assert instant(text) == ms

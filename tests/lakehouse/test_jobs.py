import os
import signal
import subprocess
import sys

import pytest

from lakehouse import jobs
from lakehouse.errors import FraudlakeError, RangeMissing


def test_every_job_has_the_same_flags() -> None:
    parsed = jobs.parser("x", None).parse_args(
        ["--env", "test", "--available-now", "--from-position", "3", "--to-position", "9"]
    )
    assert vars(parsed) == {"env": "test", "available_now": True, "from_position": 3, "to_position": 9}
    assert vars(jobs.parser("x", None).parse_args([])) == {
        **dict.fromkeys(("env", "from_position", "to_position")),
        "available_now": False,
    }


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--from-position", "3"], "--from-position and --to-position belong together"),
        (["--to-position", "3"], "--from-position and --to-position belong together"),
        (["--from-position", "3", "--to-position", "3"], "--to-position must be above --from-position"),
    ],
)
def test_half_an_interval_is_refused_before_anything_starts(flags: list[str], why: str) -> None:
    with pytest.raises(FraudlakeError, match=why):
        jobs.context("x", jobs.parser("x", None).parse_args(flags))


def test_an_error_we_know_ends_as_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise RangeMissing("Offset 7 is gone.", "Land it again.")

    assert jobs.guarded(work) == 1
    assert capsys.readouterr().err == "RangeMissing: Offset 7 is gone. Land it again.\n"
    assert jobs.guarded(lambda: None) == 0


def test_an_error_we_do_not_know_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        jobs.guarded(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing.job", "--available-now"], "there is no job nothing.job"),
        (["lakehouse.jobs", "--available-now"], "there is no job lakehouse.jobs"),
        (["bronze.job"], "several jobs in one process need --available-now"),
    ],
)
def test_wrong_jobs_are_named(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        jobs._main(arguments)
    assert why in capsys.readouterr().err


def test_a_process_ends_at_its_crash_point_and_at_no_other() -> None:
    script = "from lakehouse.crash import crash_point as c; c('a'); print(1); c('b'); print(2); c('b'); print(3)"

    def run(at: str | None) -> tuple[int, str]:
        env = {name: value for name, value in os.environ.items() if name != "FRAUDLAKE_CRASH_AT"}
        if at:
            env["FRAUDLAKE_CRASH_AT"] = at
        done = subprocess.run(
            [sys.executable, "-uc", script], env=env, capture_output=True, text=True, start_new_session=True
        )
        return done.returncode, done.stdout.replace("\n", "")

    assert run(None) == (0, "123")
    assert run("a") == (-signal.SIGKILL, "")
    assert run("b") == (-signal.SIGKILL, "1")
    assert run("b:2") == (-signal.SIGKILL, "12")
    assert run("b:3") == (0, "123")

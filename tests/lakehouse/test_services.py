"""The processes behind `make up`: started, found again, ended; never one that is not ours."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import job as services
from deploy.local.apart import variables
from deploy.local.process import Service, port_answers, require_free, start_time
from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError, PortBusy

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not a service of ours."""
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        yield process
        process.kill()


def test_a_service_is_found_again_and_ended(tmp_path: Path) -> None:
    pid = Service("sleeper", tmp_path).start(SLEEP, {}, tmp_path)
    again = Service("sleeper", tmp_path)
    assert again.pid() == pid
    assert again.stop()
    assert (again.pid(), again.stop(), start_time(pid)) == (None, False, None)


def started_with_a_child(service: Service) -> tuple[int, int]:
    """The pids of a service's process and of its child, once both run."""
    script = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(60)"
    pid = service.start([sys.executable, "-c", script, *SLEEP], {}, service.folder)
    deadline = time.monotonic() + 20
    while not service.tail() and time.monotonic() < deadline:
        time.sleep(0.02)
    child = int(service.tail())
    assert start_time(child) is not None
    return pid, child


def ended(pid: int) -> bool:
    """Whether a process ends soon."""
    deadline = time.monotonic() + 20
    while start_time(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return start_time(pid) is None


def test_its_children_end_with_it(tmp_path: Path) -> None:
    service = Service("parent", tmp_path)
    _, child = started_with_a_child(service)
    service.stop()
    assert ended(child)


def test_children_of_a_process_that_was_killed_are_ended_too(tmp_path: Path) -> None:
    service = Service("parent", tmp_path)
    pid, child = started_with_a_child(service)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert service.pid() is None
    assert start_time(child) is not None
    assert service.stop()
    assert ended(child)
    assert not service.stop()


def test_children_of_somebody_elses_process_are_left_alone(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys; "
        "print(os.getpid(), subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *SLEEP], start_new_session=True, capture_output=True, text=True, check=True
    )
    group, child = (int(part) for part in done.stdout.split())
    (tmp_path / "sleeper.pid").write_text(f"{group} 1")
    try:
        assert not Service("sleeper", tmp_path).stop()
        assert start_time(child) is not None
    finally:
        os.kill(child, signal.SIGKILL)


def test_its_log_holds_the_last_lines_of_its_output(tmp_path: Path) -> None:
    service = Service("speaker", tmp_path)
    assert service.tail() == ""
    script = "import os, sys; print('one'); print(os.environ['WORD'], file=sys.stderr, flush=True)"
    service.start([sys.executable, "-uc", script], {"WORD": "two"}, tmp_path)
    deadline = time.monotonic() + 20
    while "two" not in service.tail() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (service.tail(), service.tail(lines=1)) == ("one\ntwo", "two")


def test_a_recycled_pid_is_not_ours(tmp_path: Path, foreign: subprocess.Popen[bytes]) -> None:
    started = start_time(foreign.pid)
    assert started is not None
    (tmp_path / "sleeper.pid").write_text(f"{foreign.pid} {started - 1}")
    service = Service("sleeper", tmp_path)
    assert (service.pid(), service.stop()) == (None, False)
    assert foreign.poll() is None
    assert not (tmp_path / "sleeper.pid").exists()


@pytest.mark.parametrize("content", ["", "17", "17 None", "x y", "1 2 3"])
def test_a_torn_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "sleeper.pid").write_text(content)
    assert Service("sleeper", tmp_path).pid() is None
    assert not Service("sleeper", tmp_path).stop()


def test_a_service_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    service = Service("broken", tmp_path)
    service.start([sys.executable, "-c", "print('no such disk'); raise SystemExit(3)"], {}, tmp_path)
    with pytest.raises(FraudlakeError, match=r"(?s)broken ended at its start\..*no such disk"):
        service.wait_ready(lambda: False, 20)


def test_a_service_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    service = Service("slow", tmp_path)
    pid = service.start(SLEEP, {}, tmp_path)
    with pytest.raises(FraudlakeError, match="slow was not ready after 0 s"):
        service.wait_ready(lambda: False, 0.2)
    assert start_time(pid) is None


def test_a_busy_port_is_named_with_its_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert port_answers(port)
        with pytest.raises(PortBusy, match=rf"Port {port} \(services\.kafka_port\).*FRAUDLAKE__SERVICES__KAFKA_PORT"):
            require_free(port, "services.kafka_port")
    require_free(port, "services.kafka_port")


def test_wipe_leaves_nothing_that_the_next_world_would_take_for_its_own(tmp_path: Path) -> None:
    for name in ("services", "worlds", "spark", "spool", "keys", "trail"):
        (tmp_path / name / "some").mkdir(parents=True)
    (tmp_path / "world.yml").touch()
    services.wipe(conf.load().model_copy(update={"state_dir": tmp_path}), sure=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "trail"]


def test_a_place_apart_has_every_folder_but_those_of_jars_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(tmp_path).items():
        monkeypatch.setenv(name, value)
    shared = {name for name, value, _ in conf.explain() if str(value).startswith(".fraudlake")}
    assert shared == {"spark.jars_folder", "services.jars_folder", "services.cassandra_jars_folder"}


def test_this_process_has_a_start_time() -> None:
    assert start_time(os.getpid()) is not None
    assert start_time(2**22 + 1) is None

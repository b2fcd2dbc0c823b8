"""The campaign's own parts: a plan that can be repeated, a proxy that cuts off, and counts that find what is wrong."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.campaign import judge
from tests.campaign.plan import CRASH_POINTS, KINDS, plan
from tests.campaign.processes import descendants, limit_files
from tests.campaign.proxy import Proxy


def test_equal_seeds_give_equal_faults_and_other_seeds_others() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)


def test_a_plan_has_the_kills_that_were_asked_for_and_every_kind_of_fault() -> None:
    faults = plan(1, 200)
    assert sum(fault.kills for fault in faults[:-1]) < 200 <= sum(fault.kills for fault in faults)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert [fault.number for fault in faults] == list(range(len(faults)))
    assert {f.target for f in faults if "broker" in f.kind or f.kind == "half-open"} == {"broker"}
    assert {f.place.split(":")[0] for f in faults if f.place} == {p for some in CRASH_POINTS.values() for p in some}


def _echo() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(100):
            connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


def _asked(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=5)
    client.sendall(b"one")
    assert client.recv(100) == b"one"
    return client


def test_a_half_open_connection_stays_and_says_nothing_while_new_ones_work() -> None:
    server = _echo()
    proxy = Proxy(0, server.getsockname()[1])
    with _asked(proxy.port) as old:
        assert proxy.half_open() == 1
        old.sendall(b"two")
        old.settimeout(0.7)
        try:
            answer = old.recv(100)
        except TimeoutError:
            answer = b"silence"
        assert answer == b"silence"
        with _asked(proxy.port):
            pass
        proxy.drop()
        old.settimeout(5)
        try:
            ended = old.recv(100)
        except ConnectionResetError:
            ended = b""
        assert ended == b""
    proxy.close()
    server.close()


def test_a_lost_a_doubled_and_a_foreign_position_are_counted_and_the_first_is_named() -> None:
    assert judge.counted("x", [0, 1, 2], [0, 1, 2]).good
    found = judge.counted("x", [0, 2, 2, 9], [0, 1, 2, 3])
    assert (found.lost, found.doubled, found.foreign, found.first) == (2, 1, 1, 1)
    assert not found.good
    assert judge.counted("x", [4, 5, 5], [4, 5]).first == 5


def test_a_process_whose_disk_is_full_cannot_write_until_there_is_room_again(tmp_path: Path) -> None:
    script = """
import sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "ab", buffering=0) as file:
            file.write(b"some bytes")
        print("written", flush=True)
    except OSError as error:
        print(type(error).__name__, error.errno, flush=True)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = []
        for full in (None, True, False):
            if full is not None:
                limit_files(process.pid, full)
            process.stdin.write("\n")
            process.stdin.flush()
            said.append(process.stdout.readline().strip())
        process.stdin.close()
    assert [said[0], said[1].split()[0], said[2]] == ["written", "OSError", "written"]


def test_processes_below_one_are_found_with_their_commands() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)  # below"]) as child:
        deadline = time.monotonic() + 10
        while "below" not in descendants(os.getpid()).get(child.pid, "") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "# below" in descendants(os.getpid())[child.pid]
        child.kill()

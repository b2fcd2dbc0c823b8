"""Two runs have two folders, and what a killed run left is removed."""

import os
import signal
import subprocess
import sys

from lakehouse.workplace import workplace


def test_two_runs_have_two_folders_which_are_gone_afterwards(tmp_path):
    with workplace(tmp_path) as one, workplace(tmp_path) as two:
        (one / "a").touch()
        (two / "a").touch()
        assert len({one, two} & set(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next_one(tmp_path):
    script = "import sys, pathlib; from lakehouse.workplace import workplace as w\n"
    script += "with w(pathlib.Path(sys.argv[1])) as f: (f / 'half').touch(); print(f, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        left = killed.stdout.readline().strip()
        with workplace(tmp_path):
            assert os.path.exists(left)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert os.path.exists(left)
    with workplace(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]

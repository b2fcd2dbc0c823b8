"""Steps that run beside each other, as processes."""

import pytest

from deploy.demo.steps import Steps
from lakehouse.errors import FraudlakeError

ONCE = ("timeit", "-n1", "-r1")


def test_a_step_beside_another_begins_when_that_is_ready_gives_way_to_it_and_leaves_nothing(tmp_path):
    steps = Steps(tmp_path / "log")
    niceness = "import os; print('nice', os.nice(0))"
    with steps.beside("outer", "ready", *ONCE, "-s", "print('ready', flush=True)", "import sys; sys.stdin.read()"):
        steps.run("inner", *ONCE, "-s", niceness)
        (outer,) = steps._children
        outer.stdin.close()
    steps.run("after", *ONCE, "-s", niceness)
    lines = [line for line in steps.log.read_text().splitlines() if line.startswith(("ready", "nice"))]
    assert [line.split()[0] for line in lines] == ["ready", "nice", "nice"]
    within, after = (int(line.split()[1]) for line in lines[1:])
    assert within == min(19, after + 10)
    assert (list(steps.seconds), steps._children) == (["inner", "outer", "after"], [])


def test_a_step_that_ends_before_it_is_ready_fails_and_the_block_does_not_begin(tmp_path):
    steps, begun = Steps(tmp_path / "log"), []
    for arguments in (("-s", "print('other')"), ("-s", "raise ValueError")):
        with pytest.raises(FraudlakeError, match="outer"), steps.beside("outer", "ready", *ONCE, *arguments):
            begun.append(arguments)
    assert begun == []

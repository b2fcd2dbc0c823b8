"""Asking the auditor, which shares no code with the pipeline, what it finds in a world."""

import json
import subprocess
import sys

from lakehouse import settings as conf


def audited(world, *arguments):
    """(exit code, result) of an audit, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "audit", "--json", *arguments],
        env=world.environment(),
        cwd=conf.home(),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)

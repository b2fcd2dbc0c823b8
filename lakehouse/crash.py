"""Named places at which a test may end the process as a power cut would."""

import os
import signal

VARIABLE = "FRAUDLAKE_CRASH_AT"
"""`name` or `name:n`: SIGKILL when the place is passed for the n-th time (default the first).

The whole process group dies, as in a power cut: workers, a snapshot's child, the JVM. Start the process in its own.
"""

_passed: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Go on, unless the environment says that this process ends here."""
    wanted, _, times = os.environ.get(VARIABLE, "").partition(":")
    if wanted == name:
        _passed[name] = _passed.get(name, 0) + 1
        if _passed[name] == int(times or 1):
            os.killpg(os.getpgrp(), signal.SIGKILL)

"""Files that hold a secret: only their owner may read them."""

import os
import stat
from pathlib import Path

from lakehouse.errors import KeysMissing


def refuse_shared(path: Path, do: str) -> os.stat_result:
    """The status of a file with a secret; KeysMissing, with what to `do`, when there is none, or others can read it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise KeysMissing(f"There is no {path}.", do) from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeysMissing(f"{path} can be read by others.", f"chmod 600 {path}")
    return found

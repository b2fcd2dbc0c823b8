"""Programs of Debian packages that not everybody needs: found, or installed when somebody asks for their service."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from lakehouse import settings as conf
from lakehouse.errors import FraudlakeError


def program(name: str, package: str, without: str, find: Callable[[str], Path | None] | None = None) -> Path:
    """The path of a program, if need be after an installation; FraudlakeError, which says how to do without it."""
    look = find or on_path
    if (found := look(name)) is not None:
        return found
    subprocess.run([conf.home() / "deploy" / "install.sh", package], check=False)
    if (found := look(name)) is None:
        raise FraudlakeError(f"There is no {name}.", f"Install it, or do without: {without}.")
    return found


def on_path(name: str) -> Path | None:
    """Where a shell would find it."""
    found = shutil.which(name)
    return None if found is None else Path(found)

"""Names of the files in which engine and history driver leave their state: each says where it ends."""

from pathlib import Path

SUFFIX = ".state"


def file_name(next_offset: int) -> str:
    """Name of the snapshot that ends just before an offset."""
    return f"{next_offset:020d}{SUFFIX}"


def position(path: Path) -> int:
    """The offset just before which a snapshot ends, by its name."""
    return int(path.name.removesuffix(SUFFIX))


def newest(folders: list[Path]) -> list[Path]:
    """Snapshots of some folders, the newest position first; a copy that somebody put under another name is none."""
    found = [path for folder in folders if folder.exists() for path in folder.glob(f"*{SUFFIX}")]
    named = [path for path in found if path.name.removesuffix(SUFFIX).isdecimal()]
    return sorted(named, key=lambda path: path.name, reverse=True)

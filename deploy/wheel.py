"""The product as one wheel: `python -m deploy.wheel` writes dist/fraudlake-<version>-py3-none-any.whl.

It holds every room with its data files, and `conf/` beside them, so an installed wheel is a home of its own. Its
command `fraudlake JOB FLAGS...` is `python -m JOB FLAGS...`. The same files give the same bytes.
"""

import base64
import hashlib
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lakehouse import settings as conf

SUFFIXES = {".py", ".json", ".avsc", ".yml", ".properties"}
LEFT_OUT = {"tests", "notebooks"}
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file in the archive: the oldest that a zip can say."""


def contents(root: Path) -> Iterator[Path]:
    """The files of the product below a repository's root, in order."""
    rooms = {path.parent for path in root.glob("*/__init__.py")} - {root / name for name in LEFT_OUT}
    for folder in sorted({*rooms, root / "conf"}):
        yield from sorted(
            path
            for path in folder.rglob("*")
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts and path.is_file()
        )


def metadata(project: dict[str, Any]) -> dict[str, str]:
    """The files that make an archive a wheel, but for the list of all files."""
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {name}" for name in project["dependencies"]),
    ]
    for extra, names in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {name}; extra == "{extra}"' for name in names]
    commands = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    return {
        "METADATA": "\n".join(lines) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: fraudlake\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": f"[console_scripts]\n{commands}",
    }


def build(root: Path, out: Path) -> Path:
    """Write the wheel of a repository into a folder; its path."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    stem = f"{project['name']}-{project['version']}"
    files = {str(path.relative_to(root)): path.read_bytes() for path in contents(root)}
    info = f"{stem}.dist-info"
    files |= {f"{info}/{name}": text.encode() for name, text in metadata(project).items()}
    record = "".join(f"{name},{_digest(raw)},{len(raw)}\n" for name, raw in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, raw)
    return path


def _digest(raw: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else conf.home() / "dist"
    print(build(conf.home(), folder))

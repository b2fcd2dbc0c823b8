"""Schemas by id and by subject, from the files in `lakehouse/schemas`: the same ids on every machine.

`registry.json` is append-only: a schema that was once registered keeps its id for ever, because records on the log and
in bronze name it. `python -m lakehouse.registry` checks every file against it, and with `--register` adds new versions
after checking that they can read what the previous version wrote.
"""

import argparse
import hashlib
import json
import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import numpy as np

from lakehouse.codec import Codec
from lakehouse.errors import SchemaRefused, SettingsError
from lakehouse.texts import Bytes8, Ints

FOLDER = Path(__file__).parent / "schemas"
PREFIX_BYTES = 5
FORBIDDEN = frozenset({"cvv", "cvv2", "cvc", "cvc2", "pin", "pin_block", "track", "track1", "track2"})
ALLOWED_ENDINGS = ("_result", "_attempts")


@dataclass(frozen=True)
class Schema:
    """One registered schema: subject `kind`, its version, the id that prefixes every record, and its codec."""

    kind: str
    version: int
    id: int
    fingerprint: str
    parsed: Mapping[str, Any]
    codec: Codec

    @property
    def prefix(self) -> bytes:
        """Confluent wire format: a zero byte, then the id as four bytes, big-endian."""
        return struct.pack(">bI", 0, self.id)


@dataclass(frozen=True)
class Registry:
    """Every registered schema."""

    schemas: tuple[Schema, ...]

    def latest(self, kind: str) -> Schema:
        """The newest version of a kind; KeyError for an unknown kind."""
        found = [s for s in self.schemas if s.kind == kind]
        if not found:
            raise KeyError(kind)
        return max(found, key=lambda s: s.version)

    def versions(self, kind: str) -> tuple[Schema, ...]:
        """Every version of a kind, oldest first: what a reader of a topic may meet."""
        return tuple(sorted((s for s in self.schemas if s.kind == kind), key=lambda s: s.version))

    def by_id(self) -> dict[int, Schema]:
        """Schema of every id."""
        return {s.id: s for s in self.schemas}


def fingerprint(schema: Mapping[str, Any]) -> str:
    """SHA-256 of the schema's parsing canonical form (Avro specification), hex."""
    return hashlib.sha256(fastavro.schema.to_parsing_canonical_form(dict(schema)).encode()).hexdigest()


def forbidden_fields(schema: Mapping[str, Any]) -> list[str]:
    """Fields whose name says that they hold card data which may never be stored."""
    found = []
    for field in schema["fields"]:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", field["name"]).lower()
        words = name.split("_")
        pairs = {"_".join(words[i : i + 2]) for i in range(len(words) - 1)}
        if not name.endswith(ALLOWED_ENDINGS) and (FORBIDDEN & (set(words) | pairs)):
            found.append(field["name"])
    return found


def incompatible(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Why records written with `old` cannot be read with `new`; empty when they can (backward compatibility)."""
    before = {f["name"]: f["type"] for f in old["fields"]}
    reasons = []
    for field in new["fields"]:
        name, declared = field["name"], field["type"]
        if name not in before:
            if "default" not in field:
                reasons.append(f"{name} is new and has no default")
        elif before[name] != declared and declared != ["null", before[name]]:
            reasons.append(f"{name} changed from {json.dumps(before[name])} to {json.dumps(declared)}")
    return reasons


def load(folder: Path = FOLDER) -> Registry:
    """The registry of a folder; SchemaRefused when a file is not the one that was registered."""
    schemas = []
    for entry in json.loads((folder / "registry.json").read_text()):
        path = folder / f"{entry['subject']}.v{entry['version']}.avsc"
        if not path.exists():
            raise SchemaRefused(f"{path.name} is registered but missing.", "Restore it from version control.")
        parsed = json.loads(path.read_text())
        if fingerprint(parsed) != entry["fingerprint"]:
            raise SchemaRefused(
                f"{path.name} was changed after it was registered as id {entry['id']}.",
                f"Restore it, and put the change into {entry['subject']}.v{entry['version'] + 1}.avsc.",
            )
        schemas.append(
            Schema(entry["subject"], entry["version"], entry["id"], entry["fingerprint"], parsed, Codec.of(parsed))
        )
    return Registry(tuple(schemas))


@cache
def registry() -> Registry:
    """The registry that this code was released with."""
    return load()


def schema_ids(buffer: Bytes8, start: Ints, end: Ints) -> Ints:
    """The schema id of every record, -1 where it does not begin like the Confluent wire format."""
    framed = end - start >= PREFIX_BYTES
    at = np.where(framed, start, 0)
    if len(buffer) < PREFIX_BYTES:
        return np.full(len(start), -1, np.int64)
    ids = np.zeros(len(start), np.int64)
    for k in range(1, PREFIX_BYTES):
        ids = (ids << 8) | buffer[at + k]
    return np.where(framed & (buffer[at] == 0), ids, -1)


def register(folder: Path = FOLDER, id_of: Callable[[str, Mapping[str, Any]], int] | None = None) -> list[str]:
    """Add every new `kind.vN.avsc` to registry.json; what was added. SchemaRefused when one may not be added.

    `id_of` (kind, schema) gives the ids; without it they are counted on.
    """
    path = folder / "registry.json"
    if path.exists():
        load(folder)
    entries: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    known = {(e["subject"], e["version"]) for e in entries}
    files = [(m[1], int(m[2]), f) for f in sorted(folder.glob("*.avsc")) if (m := re.match(r"(\w+)\.v(\d+)", f.name))]
    added = []
    for subject, version, file in sorted(files, key=lambda f: (f[1], f[0])):
        if (subject, version) in known:
            continue
        parsed = json.loads(file.read_text())
        if card_data := forbidden_fields(parsed):
            raise SchemaRefused(f"{file.name}: {', '.join(card_data)} may never be stored.", "Remove the field.")
        if version > 1:
            before = folder / f"{subject}.v{version - 1}.avsc"
            if not before.exists():
                raise SchemaRefused(f"{file.name} has no {before.name} before it.", "Versions have no gaps.")
            old = json.loads(before.read_text())
            if reasons := incompatible(parsed, old):
                raise SchemaRefused(f"{file.name} cannot read what v{version - 1} wrote: {'; '.join(reasons)}.")
        Codec.of(parsed)
        given = max((e["id"] for e in entries), default=0) + 1 if id_of is None else id_of(subject, parsed)
        if given in {e["id"] for e in entries}:
            raise SchemaRefused(f"{file.name} was given id {given}, which another schema of ours has.")
        entries.append({"subject": subject, "version": version, "id": given, "fingerprint": fingerprint(parsed)})
        added.append(file.name)
    path.write_text("[\n" + ",\n".join("  " + json.dumps(e) for e in entries) + "\n]\n")
    return added


def main(argv: Sequence[str]) -> int:
    """Check the schema files, register new ones, or carry their ids over to the configured schema registry."""
    from lakehouse import jobs

    parser = argparse.ArgumentParser(prog="python -m lakehouse.registry", description=main.__doc__)
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument(
        "--register",
        action="store_true",
        help="add new .avsc files to registry.json; with schemas.registry http, that one gives their ids",
    )
    parser.add_argument(
        "--import-ids", action="store_true", help="put what it lacks into the schema registry, with our ids"
    )
    arguments = parser.parse_args(argv)
    return jobs.guarded(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    # They stand on this module.
    from lakehouse import agreement
    from lakehouse import settings as conf
    from lakehouse.confluent import SchemaRegistry
    from lakehouse.log import configure

    settings = conf.load(arguments.env)
    configure(settings, "registry")
    schemas, remote = settings.schemas, settings.schemas.registry == "http"
    if arguments.import_ids and not remote:
        raise SettingsError("There is no schema registry to import into.", "Set schemas.registry to http.")
    if arguments.register:

        def given(kind: str, schema: Mapping[str, Any]) -> int:
            return SchemaRegistry(schemas).register(agreement.subject_of(schemas, kind), schema)

        print("registered:", ", ".join(register(id_of=given if remote else None)) or "nothing new")
    if arguments.import_ids:
        added = SchemaRegistry(schemas).import_ids(agreement.released(schemas))
        print("imported:", ", ".join(f"{e.subject} {e.version} as {e.id}" for e in added) or "nothing new")
    print(f"{len(load().schemas)} schemas agree with registry.json")
    if remote:
        found = agreement.agreed(settings)
        print(f"{len(found.schemas)} schemas are in the schema registry at {schemas.url}, ours by the same ids")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

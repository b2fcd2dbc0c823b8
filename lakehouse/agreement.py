"""The schemas that are in force: those of the release, and by configuration what a schema registry says of them.

Tables, engine and silver are made from the released schemas, so engine and silver accept the same payments whatever a
registry learns in between. The registry must know each of them by the same id, else records would be read with another
schema. A version that only the registry knows is said in the log: its records wait in quarantine for the release.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lakehouse.codec import Codec
from lakehouse.confluent import Entry, SchemaRegistry
from lakehouse.errors import SchemaRefused, SchemaRegistryUnavailable
from lakehouse.log import logger
from lakehouse.registry import Registry, Schema, fingerprint, registry
from lakehouse.settings import Schemas, Settings, resolve


def subject_of(settings: Schemas, kind: str) -> str:
    """The subject under which the schemas of a kind stand in the registry."""
    return settings.subject_prefix + kind


def released(settings: Schemas) -> list[Entry]:
    """Every released schema, as the registry should hold it."""
    return [Entry(subject_of(settings, s.kind), s.version, s.id, s.parsed) for s in registry().schemas]


def fetched(client: SchemaRegistry, settings: Schemas) -> list[Entry]:
    """Everything that the registry holds of our kinds."""
    kinds = dict.fromkeys(schema.kind for schema in registry().schemas)
    return [entry for kind in kinds for entry in client.entries(subject_of(settings, kind))]


def checked(found: Sequence[Entry], settings: Schemas) -> Registry:
    """What a registry holds, in the form of the released one; SchemaRefused when it contradicts the release."""
    held = {(entry.subject, entry.version): entry for entry in found}
    for mine in released(settings):
        theirs = held.get((mine.subject, mine.version))
        if theirs is None:
            raise SchemaRefused(
                f"The schema registry at {settings.url} lacks {mine.subject} version {mine.version} (id {mine.id}).",
                "Carry the ids over: python -m lakehouse.registry --import-ids",
            )
        if (theirs.id, fingerprint(theirs.schema)) != (mine.id, fingerprint(mine.schema)):
            raise SchemaRefused(
                f"The schema registry at {settings.url} has another {mine.subject} version {mine.version}: id "
                f"{theirs.id}, ours is {mine.id}. Records would be read with the wrong schema.",
                "Choose another schemas.subject_prefix, or a registry of our own.",
            )
    known = {(entry.subject, entry.version) for entry in released(settings)}
    out = list(registry().schemas)
    for entry in found:
        if (entry.subject, entry.version) not in known:
            kind = entry.subject.removeprefix(settings.subject_prefix)
            print_, codec = fingerprint(entry.schema), Codec.of(entry.schema)
            out.append(Schema(kind, entry.version, entry.id, print_, entry.schema, codec))
    return Registry(tuple(out))


def agreed(settings: Settings, or_cached: bool = False) -> Registry:
    """The registry in force: the released files, or what a schema registry holds, once it agrees with them.

    `or_cached`: where it does not answer, what it held when it was last asked; that is how an engine goes on.
    SchemaRegistryUnavailable when it does not answer and nothing is cached, SchemaRefused when it contradicts us.
    """
    schemas = settings.schemas
    if schemas.registry == "files":
        return registry()
    log, place = logger("schemas"), _place(schemas)
    try:
        found = fetched(SchemaRegistry(schemas), schemas)
    except SchemaRegistryUnavailable as error:
        kept = _kept(place) if or_cached else None
        if kept is None:
            raise
        log.warning("the schema registry does not answer; cached schemas are in force", reason=error.what)
        return checked(kept, schemas)
    made = checked(found, schemas)
    ours = {schema.id for schema in registry().schemas}
    for schema in made.schemas:
        if schema.id not in ours:
            log.warning("a newer schema: its records go to quarantine", kind=schema.kind, id=schema.id)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(".new")
    temporary.write_text(json.dumps([entry.__dict__ for entry in found]))
    temporary.replace(place)
    return made


def _place(settings: Schemas) -> Path:
    name = hashlib.sha256(f"{settings.url}\n{settings.subject_prefix}".encode()).hexdigest()[:16]
    return resolve(settings.cache_folder) / f"{name}.json"


def _kept(place: Path) -> list[Entry] | None:
    try:
        content: list[dict[str, Any]] = json.loads(place.read_text())
        return [Entry(**entry) for entry in content]
    except (OSError, ValueError, TypeError):
        return None

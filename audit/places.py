"""Where to look: from the command line, else from the settings as every process reads them, by a reader of its own.

Lowest first: conf/base.yml, conf/<env>.yml, for the env `local` services.yml and world.yml of the state folder, then
FRAUDLAKE__SECTION__NAME.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audit.errors import CannotLook

PREFIX = "FRAUDLAKE__"


@dataclass(frozen=True)
class Places:
    """The addresses of one audit."""

    bootstrap_servers: str | None
    """None: the topics are left out."""
    events: str
    decisions: str
    shadow: str
    root: str
    schemas: Path
    digest_key: Path | None
    timeout_s: float
    transactional: bool
    """Whether topic `decisions` has holes: the marks of the engine's transactions (engine.delivery)."""


def home() -> Path:
    """The folder that holds conf/: FRAUDLAKE_HOME, else where this package lies."""
    return Path(os.environ.get("FRAUDLAKE_HOME", Path(__file__).resolve().parent.parent))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise CannotLook(f"{path} cannot be read ({type(error).__name__}).", "Name the places by options.") from None
    if not isinstance(content, dict):
        raise CannotLook(f"{path} must hold sections.")
    return content


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    out = dict(low)
    for key, value in high.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _from_environment() -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in os.environ.items():
        if name.startswith(PREFIX):
            *sections, last = name.removeprefix(PREFIX).lower().split("__")
            into = out
            for section in sections:
                into = into.setdefault(section, {})
            into[last] = value
    return out


def configured(env: str) -> dict[str, Any]:
    """The settings of an environment, unchecked."""
    folder = home() / "conf"
    merged = _merged(_read(folder / "base.yml"), _read(folder / f"{env}.yml"))
    above = _from_environment()
    state = home() / str(above.get("state_dir", merged["state_dir"]))
    for name in ("services.yml", "world.yml") if env == "local" else ():
        if (state / name).exists():
            merged = _merged(merged, _read(state / name))
    return _merged(merged, above)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m audit",
        description="Compare topics and tables, hop by hop, with readers of its own: what is lost, doubled, altered or "
        "moved, where, and how to repair it. Exit code 0: clean; 1: something was found; 2: it cannot look.",
        epilog="What is not given comes from conf/ and FRAUDLAKE__SECTION__NAME, as for every process.",
    )
    made.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    made.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="of Kafka (kafka.bootstrap_servers)")
    made.add_argument("--events", metavar="TOPIC", help="topic of the events (kafka.topic_prefix + events)")
    made.add_argument("--decisions", metavar="TOPIC", help="topic of the decisions (kafka.topic_prefix + decisions)")
    made.add_argument("--shadow", metavar="TOPIC", help="topic of challengers (kafka.topic_prefix + shadow)")
    made.add_argument("--lake", metavar="ROOT", help="root of the tables (lake.root)")
    made.add_argument("--schemas", type=Path, metavar="FOLDER", help="Avro schemas and their ids (lakehouse/schemas)")
    made.add_argument(
        "--digest-key",
        type=Path,
        metavar="FILE",
        help="keyring.json, or the key of payload digests alone as base64 (keyring.json of keys.folder, where it is)",
    )
    made.add_argument("--without-topics", action="store_true", help="compare the tables among themselves only")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    made.add_argument("--out", type=Path, metavar="FILE", help="write the result as JSON into a file too")
    made.add_argument(
        "--window", type=int, default=1_000_000, metavar="N", help="offsets compared at a time (default 1000000)"
    )
    return made


def places(given: argparse.Namespace) -> Places:
    """Where to look, by the command line and the settings; CannotLook where neither says it."""
    conf = configured(given.env or os.environ.get("FRAUDLAKE_ENV", "local"))
    try:
        kafka, lake, keys = conf["kafka"], conf["lake"], conf["keys"]
        servers, prefix, root = str(kafka["bootstrap_servers"]), str(kafka["topic_prefix"]), str(lake["root"])
        keyring = home() / str(keys["folder"]) / "keyring.json"
        timeout_s = float(kafka["request_timeout_s"])
        transactional = conf["engine"]["delivery"] == "transactional"
    except (KeyError, TypeError, ValueError) as error:
        raise CannotLook(f"The settings lack or garble {error}.", "`make config` shows what is in force.") from None
    if given.digest_key is not None and not given.digest_key.exists():
        raise CannotLook(f"There is no {given.digest_key}.", "--digest-key names the file with the key.")
    return Places(
        bootstrap_servers=None if given.without_topics else given.bootstrap_servers or servers,
        events=given.events or f"{prefix}events",
        decisions=given.decisions or f"{prefix}decisions",
        shadow=given.shadow or f"{prefix}shadow",
        root=_absolute(given.lake or root),
        schemas=given.schemas or home() / "lakehouse" / "schemas",
        digest_key=given.digest_key or (keyring if keyring.exists() else None),
        timeout_s=timeout_s,
        transactional=transactional,
    )


def _absolute(root: str) -> str:
    return root.rstrip("/") if "://" in root else str(home() / root)

"""A signed approval: the control event of a promotion, signed by an author and by somebody else, kept until it is used.

It lies beside the bundle in the model store, and with it the event that takes it back. Both are of one version of scope
`model`: after another promotion they are worth nothing. Whoever puts them on the log needs no key.
"""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from decisions import bundle
from expectations.control import ControlEvent, bundle_digest
from lakehouse.errors import ControlRefused
from lakehouse.keys import write_private

APPROVAL, WAY_BACK = "approval.json", "way_back.json"
SPLIT_END = "split_end.json"
"""Of scope `split`: what ends the bundle's traffic split."""
_SIGNATURES = ("author_signature", "approver_signature")


def write(store: Path, digest: str, name: str, event: ControlEvent) -> None:
    """Keep an event beside a bundle."""
    content: dict[str, Any] = asdict(event)
    for signature in _SIGNATURES:
        content[signature] = base64.b64encode(content[signature]).decode()
    write_private(store / digest / name, orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))


def read(store: Path, digest: str, name: str) -> ControlEvent:
    """The event beside a bundle; ControlRefused where there is none or it is none."""
    path = store / digest / name
    how = f"Somebody else than its author approves it: python -m training.promote approve --digest {digest}"
    if not path.exists():
        raise ControlRefused(f"Model {digest[:12]} has no signed {path.stem.replace('_', ' ')}.", how)
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        for signature in _SIGNATURES:
            content[signature] = base64.b64decode(content[signature], validate=True)
        event = ControlEvent(**content)
        named = bundle_digest(event.payload)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise ControlRefused(f"{path} cannot be read.", how) from None
    if event.scope != ("split" if name == SPLIT_END else "model") or (named == digest) != (name == APPROVAL):
        raise ControlRefused(f"{path} is of another change.", how)
    return event


def signed_by(store: Path, digest: str) -> str:
    """Key id of who signed a bundle that was verified."""
    return str(orjson.loads((store / digest / bundle.SIGNATURE).read_bytes())["key_id"])

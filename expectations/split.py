"""The traffic split in force, from the payload of scope `split`.

{"digest": SHA-256 of the challenger's manifest, "share_bp": 1000, "model_version": 3} begins one, or changes its share;
{"digest": null} ends it.

It is of one version of scope `model`: whatever comes into force behind that, a promotion or a rollback, ends it.
"""

import re
from typing import NamedTuple

from expectations.rules import shapes
from lakehouse.errors import ControlRefused

MOST_BP, WHOLE_BP = 5_000, 10_000
"""No two people may give a challenger more than half of the customers: more than that is a promotion."""
_DIGEST = re.compile("[0-9a-f]{64}")


class Split(NamedTuple):
    """A challenger that decides the payments of some customers."""

    digest: str
    """Of the challenger's bundle."""
    share_bp: int
    """Of the customers, basis points."""
    model_version: int
    """Version of scope `model` beside which it decides."""

    @property
    def share(self) -> float:
        """Of the customers, between 0 and 1."""
        return self.share_bp / WHOLE_BP


def split_of(payload: str) -> Split | None:
    """The split that a payload asks for, None where it ends one; ControlRefused where it is neither."""
    content = shapes.loaded_with("split", payload, ("digest",), ("share_bp", "model_version"))
    if content == {"digest": None}:
        return None
    asked = shapes.shaped("The split payload", content, ("digest", "share_bp", "model_version"))
    digest, share_bp, version = asked["digest"], asked["share_bp"], asked["model_version"]
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ControlRefused("The split payload must name the bundle: {'digest': SHA-256 in hex}.")
    if type(share_bp) is not int or not 1 <= share_bp <= MOST_BP:
        raise ControlRefused(f"The challenger's share must be 1 to {MOST_BP} basis points of the customers.")
    if type(version) is not int or version < 1:
        raise ControlRefused("The split payload must name the version of scope model that it is beside.")
    return Split(digest, share_bp, version)

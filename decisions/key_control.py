"""The part of the control tool that is about token keys: what has to be there before another one takes force."""

import pyarrow.compute as pc

from expectations.control import token_version_of
from lakehouse import delta, keys
from lakehouse.contracts import silver
from lakehouse.crypto import Tokens
from lakehouse.errors import ControlRefused
from lakehouse.settings import Settings, lake_root


def refuse_unready(settings: Settings, payload: str) -> None:
    """KeysMissing where the new key is not held here; ControlRefused where silver has tokens and no map to it."""
    version, root = token_version_of(payload), lake_root(settings)
    Tokens(keys.source(settings).keyring(), version)
    mapped = delta.rows(root, silver.TOKEN_MAP, ["kind"], pc.field("to_version") == version, at_most=1).num_rows
    if not mapped and delta.rows(root, silver.PAYMENTS, ["offset"], at_most=1).num_rows:
        raise ControlRefused(
            f"There is no map of tokens to version {version} yet; the engine would stand still while it is made.",
            f"python -m silver.tokens prepare --to {version}",
        )

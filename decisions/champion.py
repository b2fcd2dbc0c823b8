"""The champion: the model that decides, by the control events that the lake holds.

Not who bears the alias `champion` in the registry. That alias is a wish, and after a refused promotion, or a rollback
while the registry was away, its bearer decides nothing.
"""

import pyarrow.compute as pc

from expectations.control import bundle_digest
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.errors import ControlRefused


def champion(root: str) -> str | None:
    """Digest of the model in force at the end of silver; None before the first one is."""
    events = delta.rows(root, silver.CONTROL, ["offset", "payload"], pc.field("scope") == "model")
    newest = events.sort_by([("offset", "descending")]).slice(0, 1).column("payload").to_pylist()
    return bundle_digest(newest[0]) if newest else None


def needed(root: str) -> str:
    """The same for who cannot do without one; ControlRefused before the first one is."""
    digest = champion(root)
    if digest is None:
        raise ControlRefused(
            "No model is in force: silver.control has no event of scope model.",
            "Put one into force (python -m decisions.control activate --scope model --digest DIGEST), then run "
            "bronze.job and silver.job.",
        )
    return digest

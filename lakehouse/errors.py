"""The exception tree; whether a retry can help is part of the type.

    FraudlakeError
    |-- Terminal                 somebody has to act; a retry gives the same answer
    |   |-- SettingsError        a setting is unknown, missing or out of range
    |   |-- KeysMissing          no key material, or a version that the provider does not hold
    |   |   |-- KeyDestroyed     a data key was destroyed: what it sealed is gone
    |   |   `-- KeyUnknown       a data key that a row names was never made here
    |   |-- SchemaRefused        a schema breaks compatibility or names forbidden card data
    |   |-- TopicReplaced        a topic was deleted and made again: its offsets mean other records
    |   |-- RangeMissing         records that should be there are not (retention, a hole)
    |   |-- CheckpointDamaged    a stream's own bookkeeping cannot be read
    |   |-- ContractBroken       a frame or table differs from its contract
    |   |-- TableDamaged         a table is not what its commits and its high-water record say
    |   |-- BalanceBroken        received is not accepted + quarantined + duplicates
    |   |-- QualityHeld          a score holds an interval back until somebody releases it
    |   |-- SnapshotRefused      a state file is torn, altered, or of another spec or topic
    |   |-- BundleRefused        model bytes are unsigned, altered or of another feature set
    |   |-- ControlRefused       a control event is unsigned, self-approved or out of order
    |   |   `-- RuleRefused      a rule is not in the language, or its own tests say otherwise
    |   |-- EngineFenced         a newer engine has taken over this partition
    |   `-- TrailBroken          the audit trail cannot be read or written
    `-- Transient                trying again later can help
        |-- BrokerUnavailable
        |-- RegistryUnavailable  the model registry does not answer
        |-- SchemaRegistryUnavailable  the schema registry does not answer
        |-- StoreUnavailable     a store beside the log does not answer
        `-- PortBusy             a local port is held by somebody else

Every message says what happened and what to do next; rows are named by key or position, never by content.
"""


class FraudlakeError(Exception):
    """Base of everything this product raises on purpose: `what` happened and what to `do` about it."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"{what} {do}".strip())
        self.what = what
        self.do = do


class Terminal(FraudlakeError):
    """A retry gives the same answer."""


class Transient(FraudlakeError):
    """A retry can help."""


class SettingsError(Terminal):
    """A setting is unknown, missing or out of range."""


class KeysMissing(Terminal):
    """There is no key material, or not the version that was asked for."""


class KeyDestroyed(KeysMissing):
    """A data key was destroyed; what it sealed cannot be read by anybody."""


class KeyUnknown(KeysMissing):
    """A data key that a row names is not in the store."""


class SchemaRefused(Terminal):
    """A schema breaks compatibility or names forbidden card data."""


class TopicReplaced(Terminal):
    """A topic was deleted and made again; its offsets now mean other records."""


class RangeMissing(Terminal):
    """Records that should be readable are not."""


class CheckpointDamaged(Terminal):
    """The bookkeeping of a stream cannot be read, or says more than its table holds."""


class ContractBroken(Terminal):
    """A frame or a table differs from its contract."""


class TableDamaged(Terminal):
    """A table is not what its commits and its high-water record say; `lakehouse/RUNBOOK.md` has every kind."""

    def __init__(self, table: str, version: int, what: str) -> None:
        where = f" at version {version}" if version >= 0 else ""
        super().__init__(
            f"{table} is damaged{where}: {what}.",
            f"Look: python -m lakehouse.repair --table {table}; mend: the same with --do.",
        )


class BalanceBroken(Terminal):
    """Received is not accepted + quarantined + duplicates."""


class QualityHeld(Terminal):
    """The score of an interval is so low that gold and training refuse it until somebody releases it."""


class SnapshotRefused(Terminal):
    """A state file is torn, altered, or belongs to another spec or topic."""


class BundleRefused(Terminal):
    """Model bytes are unsigned, altered or made for another feature set."""


class ControlRefused(Terminal):
    """A control event is unsigned, self-approved or out of order."""


class RuleRefused(ControlRefused):
    """A rule is not in the language, or its own tests say otherwise."""


class EngineFenced(Terminal):
    """A newer engine has taken over; this one must not write."""


class TrailBroken(Terminal):
    """The audit trail cannot be read or written; what it should tell of must not happen."""


class BrokerUnavailable(Transient):
    """The broker does not answer."""


class RegistryUnavailable(Transient):
    """The model registry does not answer."""


class SchemaRegistryUnavailable(Transient):
    """The schema registry does not answer."""


class StoreUnavailable(Transient):
    """A store beside the log, a cache for one, does not answer."""


class PortBusy(Transient):
    """A local port is held by a process that is not ours."""

"""What requests and answers look like; the payment's fields are those of its Avro schema."""

from datetime import date
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model

from lakehouse.registry import registry

_PYTHON: dict[str, Any] = {"string": str, "boolean": bool, "int": int, "long": int, "double": float}
_LOGICAL: dict[str, Any] = {"timestamp-millis": AwareDatetime, "date": date}
_SCHEMA = registry().latest("payment")
_BOUNDS = {
    "int": {"ge": -(2**31), "le": 2**31 - 1},
    "long": {"ge": -(2**63), "le": 2**63 - 1},
    "string": {"max_length": 256},
}


def _field(field: dict[str, Any]) -> tuple[Any, Any]:
    declared, nullable = field["type"], False
    if isinstance(declared, list):
        declared, nullable = declared[1], True
    bounds: dict[str, Any] = {} if isinstance(declared, dict) else _BOUNDS.get(declared, {})
    kind = _LOGICAL[declared["logicalType"]] if isinstance(declared, dict) else _PYTHON[declared]
    if field["name"] == "received_at":
        return (
            AwareDatetime | None,
            Field(None, description=f"{field['doc']}; only keys with role `replay` may set it"),
        )
    if nullable:
        return (kind | None, Field(None, description=field["doc"], **bounds))
    return (kind, Field(description=field["doc"], **bounds))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, hide_input_in_errors=True)


_FIELDS: Any = {f["name"]: _field(f) for f in _SCHEMA.parsed["fields"]}
PaymentRequest: Any = create_model("PaymentRequest", __base__=_Strict, __doc__=_SCHEMA.parsed["doc"], **_FIELDS)


PAYMENT_SCHEMA: dict[str, Any] = PaymentRequest.model_json_schema()
"""Of the request's body, for the OpenAPI page."""


class Position(BaseModel):
    """Where the payment lies in the log."""

    topic_id: str
    partition: int
    offset: int


class DecisionAnswer(BaseModel):
    """What a payment was answered."""

    transaction_id: str
    decision_id: str | None = Field(description="hash of the payment's place in the log; null in a degraded answer")
    outcome: str = Field(description="the effective outcome: approve, challenge, review or decline")
    decided_outcome: str | None = Field(description="the engine's; null while it has not decided")
    risk: str | None = Field(description="low, medium, high or critical")
    score: float | None = Field(description="0 to 1, rounded to 1e-6")
    degraded: bool = Field(description="the API answered without the engine")
    rung: str = Field(description="the rung of the ladder that answered")
    position: Position | None

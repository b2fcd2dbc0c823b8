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


class Strict(BaseModel):
    """A body that has its fields and no other; what is wrong with it never shows what it held."""

    model_config = ConfigDict(extra="forbid", strict=False, hide_input_in_errors=True)


_FIELDS: Any = {f["name"]: _field(f) for f in _SCHEMA.parsed["fields"]}
PaymentRequest: Any = create_model("PaymentRequest", __base__=Strict, __doc__=_SCHEMA.parsed["doc"], **_FIELDS)


PAYMENT_SCHEMA: dict[str, Any] = PaymentRequest.model_json_schema()
"""Of the request's body, for the OpenAPI page."""

_LABEL = registry().latest("label")
_LABEL_FIELDS: Any = {
    **{f["name"]: _field(f) for f in _LABEL.parsed["fields"] if f["name"] != "received_at"},
    "source": (str, Field("analyst", max_length=32, description="analyst, customer, chargeback or early_warning")),
    "confidence": (float, Field(1.0, ge=0, le=1, description="0 to 1")),
    "label_available_at": (
        AwareDatetime | None,
        Field(None, description="from when on the finding could be known; the time of arrival where it is left out"),
    ),
}
LabelRequest: Any = create_model("LabelRequest", __base__=Strict, __doc__=_LABEL.parsed["doc"], **_LABEL_FIELDS)


LABEL_SCHEMA: dict[str, Any] = LabelRequest.model_json_schema()
"""Of the body of a label."""


class Position(BaseModel):
    """Where the payment lies in the log."""

    topic_id: str
    partition: int
    offset: int


class Reason(BaseModel):
    """A reason code with its sentence for people."""

    code: str
    sentence: str


class ModelReasons(BaseModel):
    """Why the models gave their score: shares of it by family of features, `expected_score` is an unknown payment's."""

    decision_id: str
    codes: list[Reason]
    features: list[str] = Field(description="those that raised the score most, the strongest first")
    expected_score: float
    added: dict[str, float] = Field(description="what each family of features added to the score")


class DecisionAnswer(BaseModel):
    """What a payment was answered."""

    transaction_id: str
    decision_id: str | None = Field(description="hash of the payment's place in the log; null in a degraded answer")
    outcome: str = Field(description="the effective outcome: approve, challenge, review or decline")
    decided_outcome: str | None = Field(description="the engine's; null while it has not decided")
    risk: str | None = Field(description="low, medium, high or critical")
    score: float | None = Field(description="0 to 1, rounded to 1e-6")
    challenge: str | None = Field(description="how its challenge ended: approved, declined or expired; null before")
    degraded: bool = Field(description="the API answered without the engine")
    rung: str = Field(description="the rung of the ladder that answered")
    reason_codes: list[str] | None = Field(
        default=None, description="of lists and rules that acted; null where unknown"
    )
    rules_fired: list[str] | None = Field(
        default=None, description="id@version of rules that acted; null where unknown"
    )
    model_reasons: ModelReasons | None = Field(
        default=None, description="the models' reasons, which follow a decision that did not approve; null until known"
    )
    position: Position | None

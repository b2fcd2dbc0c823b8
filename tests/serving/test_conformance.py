"""Whatever is asked, the API answers as its committed document says, and never with an error of its own.

The cases are made of the document by schemathesis; `make test-api` asks many more of them.
"""

import json
import math
from collections import Counter
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lakehouse import keys
from lakehouse import settings as conf
from serving.openapi import FILE
from tests.calling import payment
from tests.lakehouse.records import CARD
from tests.serving.replicas import engine, world
from tests.serving.running import until

__all__ = ["engine", "world"]

REVEALS_PER_MIN = 1_000_000
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = json.loads(FILE.read_text())
OPERATIONS = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
VARIED = [one for one in OPERATIONS if one.path.startswith("/v1/")]
"""Those of which there is more than one request."""
SOUND = {
    "POST /v1/decisions": lambda: payment(str(uuid4())),
    "POST /v1/labels": lambda: {
        **{name: value for name, value in payment("t").items() if name not in ("channel", "device_id")},
        "label_id": str(uuid4()),
        "is_fraud": True,
    },
    "POST /v1/tokens/card": lambda: {"card_number": CARD, "purpose": "case"},
}
"""Bodies that are accepted, by operation: few that are drawn of the document alone are."""


@pytest.fixture(scope="module")
def every_role(broker):
    """The key of somebody who may do everything; an API that starts later knows it."""
    folder = conf.resolve(conf.load().keys.folder)
    return (folder / keys.api_key(folder, "everything", keys.ROLES)).read_text()


@pytest.fixture(scope="module")
def known(every_role, world, engine):
    """Parts of addresses that lead to something: a payment, and the token of its card."""
    one = world.replicas[0]
    assert one.call("POST", "/v1/decisions", payment("known", card_number=CARD), key="everything")[0] == 200
    _, found = one.call("POST", "/v1/tokens/card", {"card_number": CARD, "purpose": "case"}, key="everything")
    until(lambda: one.call("GET", f"/v1/entities/card/{found['token']}", key="everything")[0] == 200)
    return {"id": "known", "token": found["token"], "kind": "card"}


def cases(operation, known):
    """Cases as the document asks for, cases that break it; known addresses, and sound bodies with some fields drawn."""
    drawn = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    if parts := {name: value for name, value in known.items() if f"{{{name}}}" in operation.path}:
        drawn.append(operation.as_strategy(path_parameters=parts))
    if operation.label in SOUND:
        drawn.append(st.tuples(drawn[0], st.data()).map(lambda pair: _sounder(operation.label, *pair)))
    return st.one_of(*drawn)


def _sounder(label, case, data):
    sound = SOUND[label]()
    if isinstance(case.body, dict):
        kept = data.draw(st.sets(st.sampled_from(sorted({*sound, *case.body}))))
        sound.update({name: case.body[name] for name in kept & case.body.keys()})
    case.body = sound
    return case


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
def test_every_answer_is_one_of_the_documented_ones(operation, every_role, world, known, api_cases, pytestconfig):
    one, seen = world.replicas[0], Counter()
    wanted = math.ceil(api_cases / len(VARIED)) if operation in VARIED else 1

    @seed(pytestconfig.getoption("--hypothesis-seed"))
    @settings(
        max_examples=wanted,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(operation, known))
    def asked(case):
        answer = case.call(base_url=f"http://127.0.0.1:{one.port}", headers={"X-API-Key": every_role})
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    asked()
    assert seen.total() >= wanted

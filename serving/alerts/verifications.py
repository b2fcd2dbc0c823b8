"""Requests for a customer's word on a challenged payment: link, code, and the one answer that counts.

The link's token is signed, the code follows from the request's id, both under keys of their own purposes: neither lies
in the store, so whoever reads the store can answer nothing. Every try is counted before its code is looked at, and an
answer is the update that finds the request unanswered: of several at once, in as many processes, one is.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from decisions.effective import EXPIRED
from lakehouse.alert_settings import Verification
from lakehouse.errors import KeysMissing
from lakehouse.keys import Keyring
from serving.alerts.database import Database, Run
from serving.alerts.matched import digest
from serving.alerts.tables import VERIFICATION_COLUMNS, names
from serving.decision_store import storable

CHALLENGE = "challenge"
_TOKEN = re.compile(r"v([1-9][0-9]{0,5})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{43})", re.ASCII)
_CODE = re.compile(r"[0-9]{6}", re.ASCII)

Verdict = Literal["taken", "wrong", "over", "unknown"]
"""Of a try: it counts; the code is wrong; the request is answered, expired or out of tries; there is none."""


@dataclass(frozen=True)
class Request:
    """One challenged payment; times in milliseconds, `received_at` in the payment's own time. No personal data."""

    verification_id: str
    decision_id: str
    transaction_id: str
    topic_id: str
    partition: int
    offset: int
    customer_token: str
    merchant_id: str
    amount_base_minor: int | None
    suspected: int
    """Whether somebody may have taken over the account: then even the customer's word is doubtful."""
    received_at: int
    decided_at: int
    expires_at: int
    key_version: int
    result: str | None = None
    ended_at: int | None = None
    tries: int = 0
    write_after: int = 0
    written: int = 0


def request(decision: Mapping[str, Any], settings: Verification, key_version: int) -> Request:
    """The request of a challenged decision; the same whoever reads the log, while key and settings stay.

    A transaction has one, as a transaction has one end.
    """
    of_payment = {
        name: storable(decision[name])
        for name in ("decision_id", "transaction_id", "topic_id", "customer_token", "merchant_id")
    }
    return Request(
        verification_id=digest("verification", decision["topic_id"], decision["transaction_id"]),
        partition=decision["partition"],
        offset=decision["offset"],
        amount_base_minor=decision["amount_base_minor"],
        suspected=int(not settings.takeover_reasons.isdisjoint(decision["reason_codes"])),
        received_at=decision["received_at"],
        decided_at=decision["decided_at"],
        expires_at=decision["decided_at"] + settings.expiry_s * 1000,
        key_version=key_version,
        **of_payment,
    )


def message_id(verification_id: str) -> str:
    """Of the message that asks."""
    return digest("message", "verify", verification_id)


def token(keyring: Keyring, verification_id: str, version: int) -> str:
    """What the link ends with: key version, id and signature."""
    signed = hmac.digest(keyring.derive("verification|link", version), verification_id.encode(), hashlib.sha256)
    return f"v{version}.{verification_id}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"


def signed_id(keyring: Keyring, given: str) -> tuple[str, int] | None:
    """(id, key version) of a token; None for one that we have not signed."""
    parts = _TOKEN.fullmatch(given)
    if parts is None:
        return None
    try:
        expected = token(keyring, parts[2], int(parts[1]))
    except (KeysMissing, binascii.Error):
        return None
    return (parts[2], int(parts[1])) if hmac.compare_digest(expected, given) else None


def code(keyring: Keyring, verification_id: str, version: int) -> str:
    """Six digits."""
    made = hmac.digest(keyring.derive("verification|code", version), verification_id.encode(), hashlib.sha256)
    return f"{int.from_bytes(made[:8], 'big') % 1_000_000:06d}"


def is_code(keyring: Keyring, verification_id: str, version: int, given: str) -> bool:
    """Whether that is the code, compared in constant time."""
    return _CODE.fullmatch(given) is not None and hmac.compare_digest(code(keyring, verification_id, version), given)


class Verifications:
    """The requests of a database."""

    def __init__(self, database: Database, tries: int) -> None:
        self._database, self._tries = database, tries

    def find(self, verification_id: str) -> Request | None:
        """A request."""
        return self._database.together(lambda run: _one(run, verification_id))

    def is_open(self, request: Request, now: int) -> bool:
        """Whether an answer would count."""
        return request.result is None and now < request.expires_at and request.tries < self._tries

    def answer(self, verification_id: str, code_is_right: bool, result: str, now: int) -> Verdict:
        """Count a try and, with the right code, take the answer."""
        count = (
            "UPDATE verifications SET tries = tries + 1 "
            "WHERE verification_id = ? AND result IS NULL AND expires_at > ? AND tries < ?"
        )
        take = "UPDATE verifications SET result = ?, ended_at = ? WHERE verification_id = ?"

        def work(run: Run) -> Verdict:
            if not run(count, (verification_id, now, self._tries)).rowcount:
                return "unknown" if _one(run, verification_id) is None else "over"
            if not code_is_right:
                return "wrong"
            # The row is ours until this is over: of those who were right at once, the others count no try any more.
            run(take, (result, now, verification_id))
            return "taken"

        return self._database.together(work)

    def ended(self, now: int, lease_ms: int, limit: int) -> list[Request]:
        """Requests that are answered or have expired and are not on the log; nobody else gets them for `lease_ms`."""
        expire = (
            "UPDATE verifications SET result = ?, ended_at = expires_at "
            "WHERE written = 0 AND expires_at <= ? AND result IS NULL"
        )
        asked = (
            f"SELECT {names(VERIFICATION_COLUMNS)} FROM verifications WHERE written = 0 AND result IS NOT NULL "
            "AND write_after <= ? ORDER BY ended_at, verification_id LIMIT ?"
        )
        take = "UPDATE verifications SET write_after = ? WHERE verification_id = ? AND written = 0 AND write_after <= ?"

        def work(run: Run) -> list[Request]:
            run(expire, (EXPIRED, now))
            found = [Request(*row) for row in run(asked, (now, limit)).fetchall()]
            return [one for one in found if run(take, (now + lease_ms, one.verification_id, now)).rowcount]

        return self._database.together(work)

    def written(self, request: Request) -> None:
        """Its end is on the log."""
        done = "UPDATE verifications SET written = 1 WHERE verification_id = ?"
        self._database.together(lambda run: run(done, (request.verification_id,)))


def _one(run: Run, verification_id: str) -> Request | None:
    asked = f"SELECT {names(VERIFICATION_COLUMNS)} FROM verifications WHERE verification_id = ?"
    row = run(asked, (verification_id,)).fetchone()
    return None if row is None else Request(*row)

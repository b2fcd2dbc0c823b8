"""The page behind the customer's link: plain HTML that asks, and takes one answer.

Looking changes nothing: mail scanners open links. Whoever answers needs the code, too. The page tells neither card nor
person, and an unknown link, an answered and an expired one show nothing of the payment.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from decisions.effective import APPROVED, DECLINED
from lakehouse.alert_settings import Verification
from lakehouse.moments import now_ms
from serving import problems
from serving.alerts.desk import desk
from serving.alerts.verifications import Request as Asked
from serving.alerts.verifications import is_code, signed_id
from serving.guard import FORM

ANSWERS = {"me": APPROVED, "not-me": DECLINED}
MOST_FIELDS = 4
STYLE = """
body { max-width: 32rem; margin: 2rem auto; padding: 0 1rem; font: 1.125rem/1.5 system-ui, sans-serif; color: #1b1f24 }
h1 { font-size: 1.5rem }
input { display: block; width: 9rem; padding: .5rem; font: inherit; letter-spacing: .25em }
button { min-width: 11rem; margin: 0 .5rem .75rem 0; padding: .75rem 1rem; font: inherit; cursor: pointer;
  background: #fff; color: inherit; border: 2px solid #57606a; border-radius: .375rem }
"""
"""Both answers look alike: neither is the one that is meant to be pressed."""
_STYLED = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{_STYLED}'",
    "X-Robots-Tag": "noindex",
}

router = APIRouter(tags=["verification"])

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
_FORM = """<p>{note}A payment of <b>{amount}</b> at <b>{merchant}</b>, {time} UTC, waits for your word.</p>
<form method="post" action="">
<button disabled hidden></button>
<p><label>The six digits of our message: <input name="code" inputmode="numeric" autocomplete="one-time-code"
 pattern="[0-9]{{6}}" maxlength="6" required></label></p>
<p><button name="answer" value="me">It was me</button> <button name="answer" value="not-me">It was not me</button></p>
</form>"""
"""The first button of a form is what the Enter key presses; disabled, it answers nothing."""
_DONE: Mapping[str, str] = {
    APPROVED: "Thank you. The payment goes on.",
    DECLINED: "Thank you. The payment is stopped. Please call your bank by the number on your card.",
}
_OVER = (
    "This question was answered or is too old. If a payment was not yours, call your bank by the number on your card."
)
_UNKNOWN = "This link is not one of ours, or not whole. Open it again from the message."


def _page(status: int, title: str, body: str) -> Response:
    return HTMLResponse(_PAGE.format(title=escape(title), style=STYLE, body=body), status, headers=HEADERS)


def _said(status: int, title: str, text: str) -> Response:
    return _page(status, title, f"<p>{escape(text)}</p>")


def _form(status: int, one: Asked, settings: Verification, note: str = "") -> Response:
    amount = "" if one.amount_base_minor is None else amount_of(one.amount_base_minor, settings)
    when = datetime.fromtimestamp(one.received_at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    told = {"amount": escape(amount), "merchant": escape(one.merchant_id), "time": when, "note": escape(note)}
    return _page(status, "Was this payment yours?", _FORM.format(**told))


def amount_of(minor: int, settings: Verification) -> str:
    """An amount as its customer reads it."""
    return f"{minor / 10**settings.currency_decimals:.{settings.currency_decimals}f} {settings.currency}"


_ANSWERS: dict[int | str, dict[str, Any]] = {
    **problems.documented({**problems.ADDRESS, 503: "the outbox does not answer"}),
    **{
        status: {"description": text, "content": {"text/html": {}}}
        for status, text in ((404, "not a link of ours"), (410, "answered, expired or out of tries"))
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["code", "answer"],
    "properties": {
        "code": {"type": "string", "pattern": "^[0-9]{6}$"},
        "answer": {"type": "string", "enum": list(ANSWERS)},
    },
}


@router.get(
    "/v1/verify/{token}",
    summary="Ask a customer about a challenged payment",
    response_class=HTMLResponse,
    responses=_ANSWERS,
)
async def look(request: Request, token: str) -> Response:
    """The page with the question; looking changes nothing."""
    here = desk(request)
    named = signed_id(here.source.keyring(), token)
    one = await here.asked(lambda: here.requests.find(named[0])) if named else None
    if one is None:
        return _said(404, "Unknown link", _UNKNOWN)
    if not here.requests.is_open(one, now_ms()):
        return _said(410, "Nothing to answer", _OVER)
    return _form(200, one, here.asking)


@router.post(
    "/v1/verify/{token}",
    summary="Take the customer's answer",
    response_class=HTMLResponse,
    responses={
        **_ANSWERS,
        422: {"description": "no answer, or a wrong code; that is counted", "content": {"text/html": {}}},
    },
    openapi_extra={"requestBody": {"required": True, "content": {FORM: {"schema": _SCHEMA}}}},
)
async def answer(request: Request, token: str) -> Response:
    """One answer counts, once, with the code: `me` or `not-me`."""
    here = desk(request)
    named = signed_id(here.source.keyring(), token)
    one = await here.asked(lambda: here.requests.find(named[0])) if named else None
    if named is None or one is None:
        return _said(404, "Unknown link", _UNKNOWN)
    given = _fields(await request.body())
    result = ANSWERS.get(given.get("answer", ""))
    if result is None:
        return _form(422, one, here.asking, "Please choose. ") if here.requests.is_open(one, now_ms()) else _gone()
    right = is_code(here.source.keyring(), *named, given.get("code", ""))
    verdict = await here.asked(lambda: here.requests.answer(named[0], right, result, now_ms()))
    if verdict == "taken":
        return _said(200, "Thank you", _DONE[result])
    if verdict == "wrong" and one.tries + 1 < here.asking.tries:
        return _form(422, one, here.asking, "That code is not right. ")
    return _gone()


def _gone() -> Response:
    return _said(410, "Nothing to answer", _OVER)


def _fields(body: bytes) -> Mapping[str, str]:
    """The fields of a form; none of what is no form."""
    try:
        found = parse_qs(body.decode("ascii"), max_num_fields=MOST_FIELDS, strict_parsing=True)
    except ValueError:
        return {}
    return {field: values[0] for field, values in found.items() if len(values) == 1}

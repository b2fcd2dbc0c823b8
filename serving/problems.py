"""Errors as application/problem+json (RFC 9457); an answer never repeats what the request held."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

Model = TypeVar("Model", bound=BaseModel)

MEDIA_TYPE = "application/problem+json"


DENIED: Mapping[int, str] = {
    401: "no known API key",
    403: "the key lacks a role",
    429: "the key's rate is exceeded; Retry-After says for how long",
}
"""What every route that needs a key may answer."""
ADDRESS: Mapping[int, str] = {422: "a part of the address is wrong"}
"""What every route with a part or a query that is checked may answer."""
BODY: Mapping[int, str] = {
    411: "a body without its length",
    413: "a body that is too large",
    415: "a body of another type",
}
"""What every route that takes a body may answer, too."""


class Problem(Exception):
    """An answer that is not a success: `status`, a short `title`, and `detail` on what to do."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.detail, self.headers, self.more = status, title, detail, headers, more

    @property
    def response(self) -> JSONResponse:
        """As an answer."""
        made = answer(self.status, self.title, self.detail, **self.more)
        made.headers.update(self.headers or {})
        return made


def answer(status: int, title: str, detail: str, **more: object) -> JSONResponse:
    """The response of a problem."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=MEDIA_TYPE)


def documented(why: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Problems by status for the OpenAPI page."""
    return {status: {"description": text, "content": {MEDIA_TYPE: {}}} for status, text in why.items()}


def parsed(model: type[Model], body: bytes, what: str) -> Model:
    """A request's body, parsed and checked in one pass; Problem 422 names the fields that are wrong, never values."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise _wrong(f"The request is not a {what}", found) from None


def _wrong(title: str, errors: Sequence[Any]) -> Problem:
    # Only places and reasons: the values may be card data.
    shown = [
        {"field": ".".join(str(part) for part in e["loc"] if part != "body") or "body", "reason": e["type"]}
        for e in errors
    ]
    fields = ", ".join(sorted({e["field"] for e in shown}))
    return Problem(422, title, f"Wrong or missing: {fields}.", errors=shown)


def install(app: FastAPI) -> None:
    """Let the app answer every error this way."""

    @app.exception_handler(Problem)
    async def problem(asked: HTTPConnection, error: Problem) -> JSONResponse:
        if isinstance(asked, WebSocket):
            await asked.send_denial_response(error.response)
        return error.response

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid(
        asked: HTTPConnection, error: RequestValidationError | WebSocketRequestValidationError
    ) -> JSONResponse:
        made = _wrong("A part of the address is wrong", error.errors()).response
        if isinstance(asked, WebSocket):
            await asked.send_denial_response(made)
        return made

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail), "See /docs for what this API offers.")

    @app.exception_handler(Exception)
    async def ours(_: Request, __: Exception) -> JSONResponse:
        return answer(500, "The API failed", "Its log says why. The same request may be sent again.")

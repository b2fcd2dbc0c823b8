"""What stands before every route: bodies that nobody will read are refused, and every answer has its headers.

Plain ASGI, as a wrapped function costs a task each.
"""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import problems

JSON = "application/json"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}
"""Answers are data for programs: nothing may run, frame, keep or guess them. The last counts behind TLS only."""
FORM, FORMS = "application/x-www-form-urlencoded", "/v1/verify/"
"""The one page that people send a form from."""
PAGES = ("/docs", "/redoc")
PAGES_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; worker-src blob:; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    "connect-src 'self'; frame-ancestors 'none'"
)
"""Of the two pages that show this interface to people: they load their scripts from there."""


class Guard:
    """Answers 411, 413 and 415 before a body is read, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(PAGES):
                    headers["Content-Security-Policy"] = PAGES_POLICY
            await send(message)

        refused = self._refused(scope) if scope["type"] == "http" else None
        await (self._app if refused is None else refused)(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        given = dict(scope["headers"])
        # Without either header there is no body (RFC 9112, 6.3).
        length = given.get(b"content-length", b"" if b"transfer-encoding" in given else b"0")
        if not length.isdigit():
            return problems.answer(411, "Content-Length is missing", "Send the length of the body.")
        if int(length) > self._most_bytes:
            return problems.answer(413, "The body is too large", f"At most {self._most_bytes} bytes.")
        wanted = FORM if scope["path"].startswith(FORMS) else JSON
        kind = given.get(b"content-type", b"").split(b";")[0].strip().lower()
        if scope["method"] == "POST" and int(length) and kind != wanted.encode():
            return problems.answer(415, "The body is of another type", f"Send it as Content-Type: {wanted}.")
        return None

"""Signed webhooks: one POST to one pinned address, no redirects, no proxies, over at a deadline.

The signature is HMAC-SHA256 under the channel's secret over the timestamp, a dot and the body, so a receiver can refuse
what is old, altered or not ours; the id is the same in every attempt, so it can refuse what it has. Nothing of the
answer is read but its status.
"""

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from serving.alerts.addresses import Networks, Refused, Resolver, Target, pinned, target

ID = "X-Fraudlake-Id"
TIMESTAMP = "X-Fraudlake-Timestamp"
SIGNATURE = "X-Fraudlake-Signature"
SECRET_CHARACTERS = 32
"""A secret has at least so many, which 256 random bits in base64 have."""


class NotDelivered(Exception):
    """A target did not take a message; the text is safe to store and to show."""


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What the header carries: `v1=` and 64 hexadecimal digits."""
    return "v1=" + hmac.digest(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hex()


def resolved(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class Webhook:
    """A receiver; `url` and `secret` are secrets both."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    allowed: Networks
    timeout_s: float
    resolver: Resolver = resolved

    def post(self, message_id: str, timestamp: int, body: bytes) -> None:
        """Deliver a message, or raise NotDelivered with what went wrong."""
        try:
            where = target(self.url)
            address = pinned(where, self.resolver, self.allowed)
        except Refused as error:
            raise NotDelivered(f"refused: {error}") from None
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fraudlake",
            "Connection": "close",
            ID: message_id,
            TIMESTAMP: str(timestamp),
            SIGNATURE: signature(self.secret, timestamp, body),
        }
        status = self._status(where, address, body, headers)
        if 300 <= status < 400:
            raise NotDelivered(f"answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise NotDelivered(f"answered {status}")

    def _status(self, where: Target, address: str, body: bytes, headers: dict[str, str]) -> int:
        connection = _Pinned(where, address, self.timeout_s)
        late = threading.Timer(self.timeout_s, connection.cut)
        late.daemon = True
        late.start()
        try:
            connection.request("POST", where.path, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            what = f"no answer within {self.timeout_s:g} s" if connection.is_cut else type(error).__name__
            raise NotDelivered(what) from None
        finally:
            late.cancel()
            connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked; the host is only told to the other side, and to TLS."""

    def __init__(self, where: Target, address: str, timeout_s: float) -> None:
        super().__init__(where.host, where.port, timeout=timeout_s)
        self.default_port = 443 if where.scheme == "https" else 80
        self._where, self._address = where, address
        self._lock = threading.Lock()
        self.is_cut = False

    def connect(self) -> None:
        """Connect, with TLS and the host's certificate where the scheme wants it."""
        self._hold(socket.create_connection((self._address, self._where.port), self.timeout))
        if self._where.scheme == "https":
            context = ssl.create_default_context()
            made = context.wrap_socket(self.sock, server_hostname=self._where.host, do_handshake_on_connect=False)
            self._hold(made)
            made.do_handshake()

    def _hold(self, made: socket.socket) -> None:
        with self._lock:
            self.sock = made
            if self.is_cut:
                raise TimeoutError

    def cut(self) -> None:
        """End the connection in the middle of whatever it does: an answer may come byte by byte for ever."""
        with self._lock:
            self.is_cut = True
            if self.sock is not None:
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)

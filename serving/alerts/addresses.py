"""Where a webhook may go: the address check, pure but for the resolver that it is given.

A host is a name of letters, digits and hyphens, or an address in its one canonical form; every other way to write a
number (decimal, octal, hexadecimal, short, full-width) is refused before anybody resolves it. All addresses of a name
must be public; the connection is then made to one of these addresses and the name is not asked again, so a name that
changes its address between the check and the connection (DNS rebinding) changes nothing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]
Resolver = Callable[[str, int], Sequence[str]]
"""All addresses of a host, as text; OSError where there are none."""

MOST_URL = 2048
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.ASCII)

# The special-purpose registries of IANA (IPv4 and IPv6), spelled out because Python's own idea of `is_global` changed
# between its patch releases; and addresses that are public by their number but belong to the machine's cloud.
_NOT_PUBLIC: Networks = [
    ip_network(text)
    for text in (  # noqa: SIM905
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
        "168.63.129.16/32 "  # Azure's wire server, which answers inside of a virtual machine
        "::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 "
        "5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"
    ).split()
]


class Refused(Exception):
    """Nothing may be sent there; the text says why and names neither the URL nor the host."""


@dataclass(frozen=True)
class Target:
    """The parts of an accepted URL; `host` is a name in lower case or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str) -> Target:
    """The parts of a URL; Refused for anything that two readers could read differently."""
    if len(url) > MOST_URL or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise Refused("the URL is too long or has characters that a URL has not")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("the URL has no readable host or port") from None
    if parts.scheme not in ("http", "https"):
        raise Refused("the URL is neither https nor http")
    if "@" in parts.netloc or "%" in parts.netloc or parts.fragment or "#" in url:
        raise Refused("the URL has a user, an escaped host or a fragment")
    if parts.netloc.endswith(":") or port == 0:
        raise Refused("the URL's port is empty or zero")
    host = _host(parts.netloc)
    path = parts.path or "/"
    if not path.startswith("/") or path.startswith("//"):
        raise Refused("the URL's path is no path")
    return Target(
        parts.scheme,
        host,
        port or (443 if parts.scheme == "https" else 80),
        path + (f"?{parts.query}" if parts.query else ""),
    )


def _host(netloc: str) -> str:
    """The host as it was written, not as a library made it out to be."""
    if netloc.startswith("["):
        text = netloc[1 : netloc.find("]")]
        try:
            return str(IPv6Address(text))
        except AddressValueError:
            raise Refused("the host is no IPv6 address") from None
    host = netloc.rpartition(":")[0] if ":" in netloc else netloc
    host = host.lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("the host is no name")
    if _NUMBER.fullmatch(labels[-1]):
        # A last label that is a number makes an address of it, for whoever connects (URL standard, "ends in a number").
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise Refused("the host is an address in another than its canonical form") from None
    return host


def public(address: Address, allowed: Networks) -> bool:
    """Whether an address may be reached: it is public, or one of `allowed` holds it."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            # It is the IPv4 address for whoever connects to it.
            return public(address.ipv4_mapped, allowed)
    if any(address in network for network in allowed):
        return True
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def pinned(where: Target, resolver: Resolver, allowed: Networks) -> str:
    """The one address to connect to; Refused unless every address of the host may be reached.

    Without TLS only `allowed` may be reached: what is signed could be read and held back by anybody on the way.
    """
    try:
        found = [_parsed(text) for text in resolver(where.host, where.port)]
    except OSError:
        raise Refused("the host has no address") from None
    if not found:
        raise Refused("the host has no address")
    for address in found:
        if not public(address, allowed):
            raise Refused("the host is on a network that is not public and not in alerts.allow_private")
        if where.scheme != "https" and not any(address in network for network in allowed):
            raise Refused("without TLS only networks of alerts.allow_private are reached")
    return str(found[0])


def _parsed(text: str) -> Address:
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        raise Refused("the resolver gave what is no address") from None

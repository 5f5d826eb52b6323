"""Which addresses a step may ask for, and which of them it may connect to. Pure functions of texts and networks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ADDRESS: Final = 16_384
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
IPV4_COMPATIBLE: Final = ipaddress.ip_network("::/96")
ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface's number that ends with an IPv4 address."""
GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Written out: what the interpreter's own tables call global differs from release to release.
REFUSED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        # Public by its number, and the metadata service of a cloud.
        "168.63.129.16/32",
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)


class AddressPolicy:
    """Public unicast addresses are allowed, and what is inside one of the named networks."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        """Raises: `ValueError` for a malformed network."""
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in allowed_networks)

    def allows(self, text: str) -> bool:
        """Whether a connection to this numeric address may be made."""
        address = unwrap(ipaddress.ip_address(text))
        return any(address in network for network in self._allowed) or is_public(address)


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv6 form that carries one, else the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    number = int(address)
    carries = address in NAT64 or (address in IPV4_COMPATIBLE and number > 1)
    if carries or (number >> 32) & 0xFFFFFFFF in ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """A global unicast address that is no cloud's metadata service."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in REFUSED)


class AddressInvalid(ValueError):
    """What stands for an address is none that a step may ask."""


def check_address(url: str) -> None:
    """Raises: `AddressInvalid` for what is no plain http or https address."""
    if len(url) > MAX_ADDRESS or CONTROL.search(url) or "\\" in url:
        raise AddressInvalid("an address must be short, and hold no backslash and no control characters")
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme.lower() in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain:
        raise AddressInvalid("an address must be a whole http or https one")
    if "@" in parts.netloc:
        raise AddressInvalid("an address holds no user and password: use auth")


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a credential was meant for."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower().rstrip("."), parts.port or DEFAULT_PORTS.get(scheme)

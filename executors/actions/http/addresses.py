"""Which addresses a step may connect to. A pure function of the address and the allowed networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.ip_network("64:ff9b::/96")
NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
SHARED = ipaddress.ip_network("100.64.0.0/10")


class AddressPolicy:
    """Public unicast addresses are allowed, and what is inside one of the named networks."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        """Raises: `ValueError` for a malformed network."""
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in allowed_networks)

    def allows(self, text: str) -> bool:
        """Whether a connection to this numeric address may be made."""
        if "%" in text:
            # A zone: link-local.
            return False
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
    if address in NAT64 or (address in IPV4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """A global unicast address; clouds' metadata services are on link-local or private ones."""
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    reserved = address.is_reserved or address.is_unspecified or address in SHARED or address in NAT64_LOCAL
    return address.is_global and not special and not reserved

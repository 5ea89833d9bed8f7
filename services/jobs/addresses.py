"""Where a webhook may lead: to addresses of the public internet, looked at before anything is sent there."""

import asyncio
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_Address: TypeAlias = IPv4Address | IPv6Address

_LONGEST = 2048
# RFC 6052: the last 32 bits are an IPv4 address, to which a gateway leads
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# where clouds tell machines of their secrets; all others are link-local or private
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.169.254", "fd00:ec2::254")
)


class AddressRefusedError(Exception):
    """A webhook leads to where none may."""


def check_url(text: str, *, http: bool, private: bool) -> URL:
    """Read a webhook's address; of a host by name nothing is looked up yet.

    Raises:
        AddressRefusedError: it is none, or leads to where none may.
    """
    schemes = ("https", "http") if http else ("https",)
    limit = f"must be an address of at most {_LONGEST} characters that begins with {' or '.join(schemes)}://"
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        raise AddressRefusedError(limit)
    try:
        url = URL(text)
        host, _port = url.host, url.port
    except ValueError:
        raise AddressRefusedError(limit) from None
    if url.scheme not in schemes or not host:
        raise AddressRefusedError(limit)
    if url.user is not None or url.password is not None or url.fragment:
        raise AddressRefusedError("must have no user, no password and no fragment")
    literal = _literal(host)
    if literal is not None and not allowed(literal, private=private):
        raise AddressRefusedError("must not lead to a private, loopback, link-local or otherwise reserved address")
    return url


def allowed(address: _Address, *, private: bool) -> bool:
    """Whether a webhook may lead to an address; with `private` to those of private networks and of loopback too."""
    return all(_allowed(one, private) for one in _meant(address))


class CheckedResolver(AbstractResolver):
    """Looks a host up once; where any of its addresses is none to be led to, it has none.

    What is connected to are the addresses that were looked at: a name cannot lead elsewhere a moment later.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: it has none, or one that is refused.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results = []
        for kind, _type, protocol, _name, where in found:
            address = str(where[0])
            if not allowed(ipaddress.ip_address(address), private=self._private):
                raise OSError("the host has an address that no webhook may lead to")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


def _literal(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _meant(address: _Address) -> list[_Address]:
    """An address, and the IPv4 addresses in it to which it may lead."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        # the same by another name
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = (address.sixtofour, *(address.teredo or ()))
    return [address, *(one for one in inner if one is not None)]


def _allowed(address: _Address, private: bool) -> bool:
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    if address.is_loopback or address.is_private or site_local:
        return private
    return address.is_global and not address.is_reserved

"""Whether a server without keys may listen where it is to."""

import ipaddress
import socket

from services.errors import StartError


def require_keys(host: str | None, *, has_keys: bool, is_open: bool) -> None:
    """Refuse a server without keys that other machines reach, unless it is meant to be `is_open`.

    `host` is where it is to listen; None: nobody says.

    Raises:
        StartError: it is such a server.
    """
    if has_keys or is_open or (host is not None and is_loopback(host)):
        return
    where = "nobody says where this server listens" if host is None else f"other machines reach {host}"
    raise StartError(
        f"there are no keys, and {where}: set keys.file (docs/keys.md), listen on 127.0.0.1, or set ingress.open=true "
        "to let anybody in"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host, by its address or by a name all of whose addresses are such."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = {str(one[4][0]).partition("%")[0] for one in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)

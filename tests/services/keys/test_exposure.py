"""Where a server without keys may listen."""

import socket

import pytest

from services.errors import StartError
from services.keys.exposure import is_loopback, require_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    require_keys(host, has_keys=False, is_open=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.3", "fe80::1", "8.8.8.8", "no.such.host.invalid", "", None])
def test_anywhere_else_it_needs_keys_or_the_setting(host: str | None) -> None:
    with pytest.raises(StartError, match="there are no keys, and .*ingress.open=true"):
        require_keys(host, has_keys=False, is_open=False)
    require_keys(host, has_keys=True, is_open=False)
    require_keys(host, has_keys=False, is_open=True)


@pytest.mark.parametrize(
    ("addresses", "loopback"),
    [(["127.0.0.1", "::1"], True), (["127.0.0.1", "10.0.0.3"], False), (["fe80::1%eth0", "::1"], False)],
)
def test_a_name_is_loopback_where_every_address_of_it_is(
    addresses: list[str], loopback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert is_loopback("here.example") == loopback

"""Which server, and with which key."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from registry.commands.server_status import DEFAULT_SERVER, KEY_VARIABLE, SERVER_VARIABLE
from services.client.errors import AddressError


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, and the key that goes with every call, None for none."""

    url: httpx.URL
    key: SecretStr | None

    @classmethod
    def of(cls, url: str | None, key: str | None, environment: Mapping[str, str] = os.environ) -> "Address":
        """What is given, and for what is not what LATENTWORKS_SERVER and LATENTWORKS_SERVER_KEY say; no text is no key.

        Raises:
            AddressError: it is no address of the web, or the key none that a header can hold.
        """
        named = environment.get(SERVER_VARIABLE) or DEFAULT_SERVER if url is None else url
        secret = environment.get(KEY_VARIABLE, "") if key is None else key
        try:
            parsed = httpx.URL(named.rstrip("/"))
        except httpx.InvalidURL:
            raise AddressError("url: is no address of the web") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise AddressError("url: must begin with http:// or https:// and name a host")
        if parsed.userinfo or parsed.query or parsed.fragment:
            raise AddressError("url: must hold no user, query or fragment; the key is given beside it")
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            # it is not quoted
            raise AddressError("key: must be printable ASCII without spaces")
        return cls(parsed, SecretStr(secret) if secret else None)

    @property
    def headers(self) -> dict[str, str]:
        """What proves who calls."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key.get_secret_value()}"}

    def __str__(self) -> str:
        """Name scheme, host and port alone."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

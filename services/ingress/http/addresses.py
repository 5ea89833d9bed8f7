"""How callers reach this server, for what they are told to come back to."""

import re
from dataclasses import dataclass

from starlette.requests import HTTPConnection

_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """How callers reach the server: by `url`, or else as each request says.

    What a proxy says in `x-forwarded-proto` and `x-forwarded-host` counts only with `trust_forwarded`: without such a
    proxy anybody could write it.
    """

    url: str | None = None
    trust_forwarded: bool = False

    def of(self, request: HTTPConnection) -> str:
        """What stands before our paths, without a slash at the end."""
        if self.url is not None:
            return self.url.rstrip("/")
        base = request.base_url
        if base.scheme in ("ws", "wss"):
            # what a WebSocket tells of is asked for by HTTP
            base = base.replace(scheme=base.scheme.replace("ws", "http"))
        if self.trust_forwarded:
            scheme, host = (_first(request.headers.get(f"x-forwarded-{part}")) for part in ("proto", "host"))
            if scheme in ("http", "https"):
                base = base.replace(scheme=scheme)
            if _HOST.fullmatch(host):
                base = base.replace(netloc=host)
        return str(base).rstrip("/")


def _first(header: str | None) -> str:
    # each proxy on the way adds its own
    return "" if header is None else header.split(",")[0].strip()

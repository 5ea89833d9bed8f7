"""How long each deployment had one request, from the access logs that Ray Serve writes.

Not from `/metrics`: Ray keeps of a duration only the bucket that it fell in, and makes the sum of buckets' midpoints.
Not of the proxy and the ingress: they count on when the client has its picture already.
"""

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.errors import BenchmarkError

_LINE = re.compile(r"^INFO \S+ \S+ (?P<deployment>\S+) \S+ (?P<request>\S+) -- CALL \S+ OK (?P<ms>\d+\.\d)ms$")
_APPLICATION = "default_"
_WRITTEN_WITHIN_S = 30.0
_LOOK_S = 0.1

# deployments by the name of their time
DEPLOYMENTS = {
    "graph_ms": "graph",
    "text_encoder_ms": "text_encoder",
    "denoiser_ms": "denoiser",
    "vae_decoder_ms": "vae_decoder",
}


def durations_ms(lines: Iterable[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of every answered call, by request id and deployment; other lines are passed over."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        if match := _LINE.match(line):
            deployment = match["deployment"].removeprefix(_APPLICATION)
            found.setdefault(match["request"], {})[deployment] = float(match["ms"])
    return found


def read_durations(logs: Path, requests: Iterable[str]) -> Mapping[str, Mapping[str, float]]:
    """Read what the logs say of `requests`, waiting for lines that are still to be written.

    Raises:
        BenchmarkError: some of `DEPLOYMENTS` have not written how long they had a request.
    """
    wanted = set(requests)
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while True:
        found = durations_ms(line for file in sorted(logs.glob("*.log")) for line in file.read_text().splitlines())
        missing = {name for request in wanted for name in set(DEPLOYMENTS.values()) - found.get(request, {}).keys()}
        if not missing:
            return {request: found[request] for request in wanted}
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Serve's access logs lack requests at {', '.join(sorted(missing))}")
        time.sleep(_LOOK_S)

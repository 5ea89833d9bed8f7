"""`python -m benchmarks.promoter`: one long-lived process that promotes what it is told to, a version a line.

It is the one that a person's commands would be, but for the seconds in which each of those imports MLflow anew. Each
answer is a line of JSON.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass

from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout import steps
from registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion: its version, when it began and returned on the clock of `time.monotonic`, and why it failed."""

    version: int
    began_s: float
    returned_s: float
    error: str | None


def main() -> None:
    """Answer for every line of the standard input: NAME VERSION."""
    registry: Registry | None = None
    for line in sys.stdin:
        name, version = line.split()
        began_s = time.monotonic()
        error = None
        try:
            if registry is None:
                registry = Registry.connect(RegistrySettings.from_environment())
            ref: ComponentRef = registry.version(name, int(version)).ref
            steps.promote(registry, [ref])
        except RegistryError as refused:
            error = str(refused)
        answer = Promotion(int(version), began_s, time.monotonic(), error)
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

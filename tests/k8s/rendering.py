"""What `kubectl apply -k` would send, by the kubectl of this machine."""

import copy
import json
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu", "gpu", "kind")

# Debian's is 1.20, whose Kustomize has no components with patches and no merge keys
_OLDEST = (1, 30)

Manifest = dict[str, Any]


def require_kubectl() -> str:
    """The path of a kubectl that is new enough; without one the test is skipped."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl on this machine")
    told = subprocess.run([found, "version", "--client", "-o", "json"], capture_output=True, check=True)
    version = json.loads(told.stdout)["clientVersion"]
    # such as "32+" of a vendor's build
    if (int(version["major"]), int(version["minor"].rstrip("+"))) < _OLDEST:
        pytest.skip(f"kubectl {version['gitVersion']} is older than 1.30, as that of Debian is")
    return found


@lru_cache
def _rendered(overlay: str) -> list[Manifest]:
    command = [require_kubectl(), "kustomize", str(ROOT / "k8s" / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def rendered(overlay: str) -> list[Manifest]:
    """All objects of an overlay, for the caller to change."""
    return copy.deepcopy(_rendered(overlay))


def one(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only object of a kind, or of a kind and a name."""
    [found] = [each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found

"""The commands of docs/kubernetes.md, and which of them run on a machine without Kubernetes."""

import re
import shlex
from typing import Any

from tests.k8s.rendering import ROOT

TEXT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCED = [text for _, text in _FENCED.findall(TEXT)]
# what is run, line by line, stands in indented blocks
_BLOCKS = "\n".join(line[4:] for line in _FENCED.sub("", TEXT).splitlines() if line.startswith("    "))
LINES = [" ".join(line.split()) for line in _BLOCKS.replace("\\\n", " ").splitlines()]
# those that are only spoken of
PROGRAMS = ("helm", "kubectl", "make", "podman", "python")
SPOKEN_OF = [code for code in re.findall(r"`([^`\n]+)`", TEXT) if code.split()[0] in PROGRAMS]

CLUSTER = "asks a cluster"
# every command that the walk along the page leaves out, by how it begins once it names no namespace, and why
ELSEWHERE = {
    "helm repo add": "Helm's program and its repository; the version is held to KubeRay's, whose rules ours are",
    "helm install": "the same",
    "podman build": "needs images of Debian; test_containerfile.py does what the image `serving` does",
    "podman save": "there is no image",
    "kubectl get": CLUSTER,
    "kubectl describe": CLUSTER,
    "kubectl port-forward": f"{CLUSTER}; the walk asks a server and a registry of this machine in its place",
    "kubectl exec": CLUSTER,
    "kubectl cp": CLUSTER,
    "kubectl logs": CLUSTER,
    "kubectl delete": CLUSTER,
    "kubectl label namespace": CLUSTER,
}


def words_of(line: str) -> list[str]:
    """A command's words, without its comment."""
    return shlex.split(line, comments=True)


def commands(program: str) -> list[list[str]]:
    """Every command of the page's blocks that begins so, in words."""
    return [words_of(line) for line in LINES if line.startswith(f"{program} ")]


def told(line: str) -> str:
    """A command without its comment and the namespace that it is for: what it begins with says what it does."""
    words = words_of(line)
    if words[1:2] == ["--namespace"]:
        del words[1:3]
    return shlex.join(words)


def begins(line: str, table: dict[str, Any]) -> str | None:
    """The key of a table that a command begins with, None where it is none of them."""
    [*found] = [key for key in table if f"{told(line)} ".startswith(f"{key} ")]
    return max(found, key=len, default=None)

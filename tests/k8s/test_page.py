"""docs/kubernetes.md against the manifests and the commands that it names."""

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from tests.k8s.rendering import OVERLAYS, ROOT, Manifest, rendered

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(line[4:] for line in PAGE.splitlines() if line.startswith("    "))


def commands(program: str) -> list[list[str]]:
    """Every command of the page's blocks that begins so, in words."""
    lines = BLOCKS.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


def secret_keys(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(secret_keys, part))
    if not isinstance(part, dict):
        return set()
    own = {part["key"]} if part.keys() == {"name", "key"} and part["name"] == "latentworks-secrets" else set()
    return own.union(*map(secret_keys, part.values()))


def test_every_overlay_that_it_applies_is_there() -> None:
    applied = {words[-1] for words in commands("kubectl") if "apply" in words}
    assert applied <= {f"k8s/overlays/{name}" for name in OVERLAYS}
    assert applied
    for name in OVERLAYS:
        assert f"| `{name}` |" in PAGE


def test_it_makes_every_secret_that_the_manifests_read() -> None:
    [made] = [words for words in commands("kubectl") if "latentworks-secrets" in words]
    literals = {word.removeprefix("--from-literal=").split("=")[0] for word in made if word.startswith("--from-lit")}
    manifests: list[Manifest] = rendered("gpu")
    assert literals == secret_keys(manifests)


@pytest.mark.parametrize("words", commands("python"), ids=shlex.join)
def test_every_command_of_ours_that_it_names_is_one(words: list[str]) -> None:
    """Each of its own words is understood: what would change something is only asked to describe itself."""
    module = words[words.index("-m") + 1]
    rest = words[words.index("-m") + 2 :]
    command = [sys.executable, "-m", module, *rest[:1], "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in (word for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", done.stdout), option


def test_make_manifests_is_for_every_overlay_with_arguments() -> None:
    assert "make manifests" in BLOCKS
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "for overlay in cpu gpu; do" in recipe


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:base|overlays|components)/[a-z./*-]+)`", PAGE))
    assert named
    for name in named:
        assert list((ROOT / "k8s").glob(name)), name

"""Somebody who follows docs/kubernetes.md at a shell without Kubernetes, and what each command does there."""

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image

from benchmarks.mlflow_server import MlflowServer
from components.contract import PARTS
from pipeline.story.containers import OURS
from tests.k8s.page import begins, told, words_of
from tests.k8s.rendering import ROOT, require_kubectl
from tests.services.server import GENERATIONS, Served, environment, serving

OVERLAYS = Path("k8s") / "overlays"


@dataclass
class Walk:
    """A shell in a copy of the repository, and what stands for the cluster: a server and a registry of this machine.

    The first overlay that is applied starts the server, with the keys that the Secret before it holds.
    """

    folder: Path
    home: Path
    registry: MlflowServer
    ends: ExitStack
    variables: dict[str, str] = field(default_factory=dict)
    served: Served | None = None
    key: str = ""
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the copy: what the page's commands write to is its own, the rest is the repository's."""
        self.folder.mkdir()
        shutil.copytree(ROOT / "k8s", self.folder / "k8s")
        for path in ROOT.iterdir():
            if path.name != "k8s" and not path.name.startswith("."):
                (self.folder / path.name).symlink_to(path)
        shutil.copytree(ROOT / "models" / "emoji" / "vae_decoder-small", self.folder / "my-decoder")
        for part in PARTS:
            shutil.copytree(ROOT / "models" / "emoji" / part, self.folder / "mine" / part)
        programs = Path(sys.executable).parent
        self.variables = environment(self.home) | {
            "PATH": f"{programs}{os.pathsep}{Path(require_kubectl()).parent}{os.pathsep}{os.environ['PATH']}",
            "LATENTWORKS_HOME": str(self.folder / "operator"),
            # nobody's cluster
            "KUBECONFIG": os.devnull,
        }

    def follow(self, line: str) -> None:
        """Do what a line of the page says, as far as that can be done here."""
        key = begins(line, HERE)
        assert key is not None, line
        HERE[key](self, line)

    def run(self, line: str) -> str:
        """What a command writes to its standard output; it must end well."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def drawn_by(self) -> str:
        """Which versions draw now, as an answer says it."""
        assert self.served is not None
        response = httpx.post(
            self.served.url + GENERATIONS,
            json={"prompt": "a boat", "steps": 1},
            headers={"authorization": f"Bearer {self.key}"},
            timeout=None,
        )
        assert response.status_code == httpx.codes.OK, response.text
        return response.headers["x-component-versions"]


def _new_key(walk: Walk, line: str) -> None:
    walk.key, kept = walk.run(line).splitlines()
    (walk.folder / "keys").write_text(f"{kept}\n", encoding="utf-8")


def _created(walk: Walk, line: str) -> None:
    """Made by kubectl as it would be sent; a value that the page leaves open is one all the same."""
    made = yaml.safe_load(walk.run(f"{line} --dry-run=client --output=yaml"))
    walk.objects[made["kind"], made["metadata"]["name"]] = made


def _labelled(walk: Walk, line: str) -> None:
    kind, name = shlex.split(told(line))[2:4]
    given = walk.objects[{"configmap": "ConfigMap"}[kind], name]
    (walk.folder / "given.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    words = [word for word in words_of(line) if word not in (kind, name)]
    made = yaml.safe_load(walk.run(f"{shlex.join(words)} --local --filename=given.yaml --output=yaml"))
    assert made["metadata"]["labels"]


def _applied(walk: Walk, line: str) -> None:
    manifests = list(yaml.safe_load_all(walk.run(f"kubectl kustomize {words_of(line)[-1]}")))
    assert [each["metadata"]["name"] for each in manifests if each["kind"] == "RayService"] == ["latentworks"]
    if walk.served is not None:
        return
    secret = walk.objects["Secret", "latentworks-keys"]
    assert secret["metadata"]["namespace"] == walk.objects["Namespace", "latentworks"]["metadata"]["name"]
    keys = walk.home / "keys"
    keys.write_bytes(base64.b64decode(secret["data"]["keys"]))
    registry = {"MLFLOW_TRACKING_URI": walk.registry.url}
    walk.served = walk.ends.enter_context(serving(walk.home, f"keys.file={keys}", variables=registry))
    # the port that the page forwards
    walk.variables["LATENTWORKS_SERVER"] = walk.served.url


def _exported(walk: Walk, line: str) -> None:
    name = words_of(line)[1].split("=")[0]
    walk.variables[name] = {"LATENTWORKS_SERVER_KEY": walk.key, "MLFLOW_TRACKING_URI": walk.registry.url}[name]


def _drawn(walk: Walk, line: str) -> None:
    assert walk.served is not None
    refused = httpx.post(walk.served.url + GENERATIONS, json={"prompt": "a boat"}, timeout=None)
    assert refused.status_code == httpx.codes.UNAUTHORIZED
    walk.run(line)
    words = words_of(line)
    with Image.open(walk.folder / words[words.index("--out") + 1]) as picture:
        picture.load()
        assert json.loads(picture.info[OURS])["prompt"] == words[words.index("draw") + 1]


def _made(walk: Walk, line: str) -> None:
    for config in (walk.folder / OVERLAYS).glob("*/serve-config.yaml"):
        config.write_text("", encoding="utf-8")
    # what it would install first is here
    walk.run(f"{line} --old-file=.venv/.complete BIN={shlex.quote(str(Path(sys.executable).parent))}")
    for config in (ROOT / OVERLAYS).glob("*/serve-config.yaml"):
        assert (walk.folder / config.relative_to(ROOT)).read_bytes() == config.read_bytes(), config


def _published(walk: Walk, line: str) -> None:
    said = walk.run(line)
    assert all(name in said for name in words_of(line)[-1:]), said


def _live_decoder(version: int) -> Callable[[Walk, str], None]:
    def moved(walk: Walk, line: str) -> None:
        walk.run(line)
        assert f"emoji.vae_decoder/{version};" in walk.drawn_by()
        status = walk.run("python -m registry status emoji --json")
        assert [each["version"] for each in yaml.safe_load(status)["live"] if each["name"] == "emoji.vae_decoder"] == [
            version
        ]

    return moved


def _told(walk: Walk, line: str) -> None:
    assert f"{words_of(line)[-1]}.vae_decoder" in walk.run(line)


HERE: dict[str, Callable[[Walk, str], None]] = {
    "export": _exported,
    "kubectl apply -k": _applied,
    "kubectl create configmap": _created,
    "kubectl create namespace": _created,
    "kubectl create secret": _created,
    "kubectl label configmap": _labelled,
    "make manifests": _made,
    "python -m registry promote": _live_decoder(2),
    "python -m registry publish": _published,
    "python -m registry rollback": _live_decoder(1),
    "python -m registry status": _told,
    "python -m services.client draw": _drawn,
    "python -m services.keys new": _new_key,
}

"""docs/kubernetes.md against the manifests, the Containerfile and the commands that it names."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.k8s import kuberay
from tests.k8s.page import ELSEWHERE, FENCED, LINES, SPOKEN_OF, TEXT, begins, commands, told
from tests.k8s.pods import templates
from tests.k8s.rendering import OVERLAYS, ROOT, Manifest, one, rendered
from tests.k8s.test_containerfile import instructions
from tests.k8s.walking import HERE


def secrets(part: Any) -> set[tuple[str, str]]:
    """The Secrets that manifests read by key, with the key."""
    if isinstance(part, list):
        return set().union(*map(secrets, part))
    if not isinstance(part, dict):
        return set()
    own = {(part["name"], part["key"])} if part.keys() == {"name", "key"} else set()
    return own.union(*map(secrets, part.values()))


def made_secrets() -> dict[str, set[str]]:
    """The keys of each Secret that the page makes."""
    made = [words for words in commands("kubectl") if "secret" in words and "create" in words]
    return {
        words[words.index("generic") + 1]: {
            word.removeprefix("--from-literal=").removeprefix("--from-file=").split("=")[0]
            for word in words
            if word.startswith("--from-")
        }
        for words in made
    }


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_run_by_the_walk_or_left_out_for_a_reason(line: str) -> None:
    here, elsewhere = begins(line, HERE), begins(line, ELSEWHERE)
    assert (here is None) != (elsewhere is None), told(line)


def test_no_reason_is_left_of_a_command_that_is_gone() -> None:
    used = {begins(line, ELSEWHERE) for line in (*LINES, *SPOKEN_OF)}
    assert ELSEWHERE.keys() - used == set()
    assert HERE.keys() - {begins(line, HERE) for line in LINES} == set()


@pytest.mark.parametrize("line", SPOKEN_OF)
def test_what_it_only_speaks_of_is_a_command_too(line: str) -> None:
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    else:
        assert line.startswith("python -m ") or begins(line, ELSEWHERE), line


def test_every_overlay_that_it_applies_is_there() -> None:
    applied = {words[-1] for words in commands("kubectl") if "apply" in words}
    assert applied <= {f"k8s/overlays/{name}" for name in OVERLAYS}
    assert applied
    for name in OVERLAYS:
        assert f"| `{name}` |" in TEXT


def test_it_makes_every_secret_that_the_manifests_read() -> None:
    manifests: list[Manifest] = rendered("gpu")
    made = made_secrets()
    assert made.keys() == {"latentworks-keys", "latentworks-secrets", "latentworks-bucket"}
    assert {key for name, key in secrets(manifests) if name == "latentworks-secrets"} == made["latentworks-secrets"]
    assert {name for name, _ in secrets(manifests)} == {"latentworks-secrets"}
    assert {"secretRef": {"name": "latentworks-bucket"}} in one(manifests, "Deployment")["spec"]["template"]["spec"][
        "containers"
    ][0]["envFrom"]
    for _, template in templates(one(manifests, "RayService")):
        assert {"name": "keys", "secret": {"secretName": "latentworks-keys"}} in template["spec"]["volumes"]
    [settings] = [each for each in manifests if each["metadata"]["name"].startswith("latentworks-settings")]
    assert settings["data"]["LATENTWORKS_KEYS__FILE"].split("/")[-1] in made["latentworks-keys"]


def test_the_operator_is_the_one_whose_rules_the_manifests_are_held_to() -> None:
    [installed] = commands("helm install")
    version = installed[installed.index("--version") + 1]
    assert version.rsplit(".", 1)[0] == kuberay.VERSION
    assert f"](https://docs.ray.io/en/latest/cluster/kubernetes/index.html) {kuberay.VERSION}." in TEXT


def test_images_that_it_builds_are_those_of_the_manifests() -> None:
    built = {}
    for words in commands("podman build"):
        target, tag = (words[words.index(option) + 1] for option in ("--target", "--tag"))
        assert instructions(target), target
        built[tag] = target
    images: set[str] = set()
    for overlay in OVERLAYS:
        for manifest in rendered(overlay):
            for _, template in templates(manifest):
                spec = template["spec"]
                images |= {each["image"] for each in (*spec.get("initContainers", []), *spec["containers"])}
    assert {image for image in images if image.startswith("latentworks")} == built.keys()
    assert {words[2] for words in commands("podman save")} <= built.keys()
    for target in re.findall(r"target `(\w+)`", TEXT):
        assert instructions(target), target


def test_make_manifests_is_for_every_overlay_with_arguments() -> None:
    assert "make manifests" in LINES
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "for overlay in cpu gpu; do" in recipe


def test_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:base|overlays|components)/[a-z./*-]+)`", TEXT))
    assert named
    for name in named:
        assert list((ROOT / "k8s").glob(name)), name
    for name in re.findall(r"`(k8s/[a-z./*-]+)`", TEXT):
        assert list(ROOT.glob(name)), name


def test_containers_and_labels_that_it_names_are_there() -> None:
    pods = [template for _, template in templates(one(rendered("gpu"), "RayService"))]
    containers = {
        each["name"] for pod in pods for each in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
    }
    labels = {label for pod in pods for label in pod["metadata"]["labels"]}
    let_in = yaml.safe_dump([each for each in rendered("gpu") if each["kind"] == "NetworkPolicy"])
    for words in commands("kubectl"):
        if "--container" in words:
            assert words[words.index("--container") + 1] in containers
        if "--selector" in words:
            assert words[words.index("--selector") + 1] in labels
        if "label" in words and "namespace" in words:
            assert words[-1].replace("=true", ": 'true'") in let_in


def test_its_route_leads_to_the_service_that_kuberay_makes() -> None:
    [route] = [yaml.safe_load(text) for text in FENCED]
    [rule] = route["spec"]["rules"]
    service = one(rendered("kind"), "RayService")
    [port] = [
        each["containerPort"]
        for each in service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
        if each["name"] == "serve"
    ]
    assert rule["backendRefs"] == [{"name": f"{service['metadata']['name']}-serve-svc", "port": port}]
    assert route["metadata"]["namespace"] == service["metadata"]["namespace"]
    forwarded = [shlex.join(words[-2:]) for words in commands("kubectl") if "port-forward" in words]
    assert f"service/{service['metadata']['name']}-serve-svc {port}" in forwarded

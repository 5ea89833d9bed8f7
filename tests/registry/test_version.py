import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.folder import ComponentFolder
from registry.errors import NoSuchVersionError, RegistryError
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.store import open_client
from registry.version import readable, tags_of

NAME = "emoji.vae_decoder"


@pytest.fixture
def client(settings: RegistrySettings) -> MlflowClient:
    return open_client(settings)


def test_a_version_says_what_its_folder_says(registry: Registry, decoder: Path, client: MlflowClient) -> None:
    ref = registry.publish(decoder, NAME, {"branch": "main"})
    folder = ComponentFolder.open(decoder)
    version = registry.version(NAME, 1)
    assert version.ref == ref
    assert version.contract == folder.manifest.contract
    assert version.weights == "float16"
    assert version.tags == {
        "branch": "main",
        "kind": "vae_decoder",
        "latent_space": "emoji-1",
        "origin.licence": "MIT",
        "origin.source": "a test",
        "parity.max_absolute_error": "3e-06",
        "weights": "float16",
    }
    assert client.get_model_version(NAME, "1").tags["sha256"] == folder.digest


def _drop_digest(tags: dict[str, str]) -> None:
    del tags["sha256"]


def _odd_digest(tags: dict[str, str]) -> None:
    tags["sha256"] = "../../etc/passwd"


def _no_json(tags: dict[str, str]) -> None:
    tags["contract"] = "{"


def _infinite(tags: dict[str, str]) -> None:
    contract = json.loads(tags["contract"])
    contract["latent_space"]["scaling_factor"] = float("inf")
    tags["contract"] = json.dumps(contract)


def _unknown_field(tags: dict[str, str]) -> None:
    tags["contract"] = json.dumps(json.loads(tags["contract"]) | {"exec": "rm"})


def _text_for_a_number(tags: dict[str, str]) -> None:
    contract = json.loads(tags["contract"])
    contract["latent_space"]["channels"] = "4"
    tags["contract"] = json.dumps(contract)


@pytest.mark.parametrize("spoil", [_drop_digest, _odd_digest, _no_json, _infinite, _unknown_field, _text_for_a_number])
def test_a_version_of_somebody_else_is_refused_and_hides_no_other(
    registry: Registry, client: MlflowClient, decoder: Path, spoil: Callable[[dict[str, str]], None]
) -> None:
    ref = registry.publish(decoder, NAME)
    tags = dict(client.get_model_version(NAME, "1").tags)
    spoil(tags)
    client.create_model_version(NAME, source="runs:/0/component", tags=tags)
    with pytest.raises(NoSuchVersionError, match=rf"{NAME}/2 was not published by Latentworks"):
        registry.version(NAME, 2)
    with pytest.raises(RegistryError, match="was not published by Latentworks"):
        registry.promote(NAME, 2)
    assert [version.ref for version in registry.versions(NAME)] == [ref]
    assert registry.publish(decoder, NAME) == ref


def test_a_version_under_a_name_that_is_no_components_hides_no_other(
    client: MlflowClient, registry: Registry, decoder: Path
) -> None:
    """A database that does not tell capital letters apart finds one."""
    ref = registry.publish(decoder, NAME)
    ours = client.get_model_version(NAME, "1")
    client.create_registered_model("Emoji.vae_decoder")
    other = client.create_model_version("Emoji.vae_decoder", source="runs:/0/component", tags=ours.tags)
    assert [version.ref for version in readable([other, ours])] == [ref]


def test_tags_of_ours_cannot_be_replaced(decoder: Path) -> None:
    with pytest.raises(RegistryError, match="contract, sha256 is set by the registry itself"):
        tags_of(ComponentFolder.open(decoder), {"sha256": "0" * 64, "contract": "{}", "mine": "1"})
    for key in ("promoted_by_start", "fit.production", "gate.verdict", "gate.anything"):
        with pytest.raises(RegistryError, match=f"{key} is set by the registry itself"):
            tags_of(ComponentFolder.open(decoder), {key: "passed"})


@pytest.mark.parametrize(("key", "value"), [("k" * 251, ""), ("", "v"), ("k", "v" * 100_001)])
def test_a_tag_that_mlflow_would_refuse_is_refused_before_anything_is_uploaded(
    registry: Registry, decoder: Path, key: str, value: str
) -> None:
    with pytest.raises(RegistryError, match="at most 250 in a name and 100000 in a value"):
        registry.publish(decoder, NAME, {key: value})
    assert registry.names() == ()


def test_the_longest_tags_fit(registry: Registry, decoder: Path) -> None:
    registry.publish(decoder, NAME, {"k" * 250: "v" * 100_000})
    assert registry.version(NAME, 1).tags["k" * 250] == "v" * 100_000

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.folder import ComponentFolder
from registry.cli import main
from registry.settings import RegistrySettings
from registry.store import open_client

Run = Callable[..., tuple[int, str, str]]
NAME = "emoji.vae_decoder"


@pytest.fixture
def run(
    settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("LATENTWORKS_HOME", str(settings.home))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["registry", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        status = 0 if ended.value.code is None else ended.value.code
        assert isinstance(status, int)
        return status, out, err

    return run


def answer(run: Run, *arguments: object) -> Any:
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_a_bundle_folder_gives_its_own_name(run: Run, tmp_path: Path, write_bundle: Callable[[Path], Path]) -> None:
    refs = answer(run, "publish", write_bundle(tmp_path / "models" / "emoji"))
    assert [ref["name"] for ref in refs] == [
        "emoji.text_encoder",
        "emoji.denoiser",
        "emoji.vae_decoder",
        "emoji.vae_encoder",
    ]
    assert answer(run, "list")[0] == {"name": "emoji.denoiser", "versions": [1], "aliases": {"production": 1}}
    assert answer(run, "publish", tmp_path / "models" / "emoji", "--bundle", "smile")[0]["name"] == "smile.text_encoder"


def test_a_component_folder_gives_its_name_unless_one_is_given(run: Run, decoder: Path) -> None:
    bundle = decoder.parent.rename(decoder.parent.parent / "emoji")
    digest = ComponentFolder.open(bundle / "vae_decoder").digest
    ref = {"name": NAME, "version": 1, "sha256": digest}
    assert answer(run, "publish", bundle / "vae_decoder") == [ref]
    named = answer(run, "publish", bundle / "vae_decoder", "--name", "sd15.vae_decoder.tiny")
    assert named == [ref | {"name": "sd15.vae_decoder.tiny"}]
    of_bundle = answer(run, "publish", bundle / "vae_decoder", "--bundle", "sd15")
    assert of_bundle == [ref | {"name": "sd15.vae_decoder"}]


def test_promote_resolve_and_show(run: Run, decoder: Path) -> None:
    (ref,) = answer(run, "publish", decoder, "--name", NAME)
    assert answer(run, "promote", NAME, 1, "--alias", "candidate") == ref
    assert answer(run, "resolve", f"{NAME}@candidate") == ref
    assert answer(run, "promote", NAME, 1) == ref
    (version,) = answer(run, "show", NAME)
    assert version["ref"] == ref
    assert version["aliases"] == ["candidate", "production"]
    assert answer(run, "show", f"{NAME}@production") == version == answer(run, "show", f"{NAME}/1")
    assert version["contract"]["latent_space"]["id"] == "emoji-1"


def test_tables_hold_what_the_json_holds(run: Run, decoder: Path) -> None:
    (ref,) = answer(run, "publish", decoder, "--name", NAME)
    run("promote", NAME, 1)
    assert "production -> 1" in run("list")[1]
    assert ref["sha256"][:12] in run("show", NAME)[1]
    assert '"scaling_factor": 0.5' in run("show", f"{NAME}/1")[1]
    assert "".join(run("resolve", f"{NAME}/1")[1].split()).count(ref["sha256"]) == 1


def test_a_tag_does_not_steer_the_terminal(run: Run, decoder: Path, settings: RegistrySettings) -> None:
    run("publish", decoder, "--name", NAME)
    client: MlflowClient = open_client(settings)
    client.set_model_version_tag(NAME, "1", "note", "\x1b[2J[bold]gone[/bold]")
    out = run("show", f"{NAME}/1")[1]
    assert "\x1b" not in out
    assert "?[2J[bold]gone[/bold]" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "emoji.denoiser"), "registry: emoji.denoiser is not in the registry"),
        (("show", "emoji.unet"), "must be <bundle>.<kind>"),
        (("resolve", "emoji"), "registry: 'emoji': must be NAME@ALIAS or NAME/VERSION"),
        (("promote", NAME, 7), f"registry: {NAME}/7 is not in the registry"),
        (("publish", "nowhere"), "no component.json"),
        (("publish", "nowhere", "--name", NAME), "no component.json; --name is for a single component"),
        (("publish", "x", "--name", NAME, "--bundle", "y"), "--name and --bundle: give only one of them"),
    ],
)
def test_what_goes_wrong_is_one_sentence(run: Run, arguments: tuple[object, ...], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_wrong_variable_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTWORKS_REGISTRY_RETRIES", "many")
    status, _, err = run("list")
    assert status == 1
    assert err.startswith("registry: LATENTWORKS_REGISTRY_RETRIES='many'")

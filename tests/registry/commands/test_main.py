import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
from mlflow import MlflowClient

from compiler.settings import CompilerSettings
from components.contract import Kind
from components.folder import ComponentFolder
from registry.commands import gc as gc_command
from registry.local.gc import Collected
from registry.registry import Registry
from registry.rollout.outcome import settle
from registry.rollout.plans import plan_promotion
from registry.settings import RegistrySettings
from registry.store import open_client
from tests.registry.command_line import Run, answer, runner

pytestmark = pytest.mark.slow  # a registry of its own for every test

NAME = "emoji.vae_decoder"


@pytest.fixture
def run(
    settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    return runner(settings.home, monkeypatch, capsys)


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


def test_resolve_and_show(run: Run, decoder: Path, settings: RegistrySettings) -> None:
    (ref,) = answer(run, "publish", decoder, "--name", NAME)
    registry = Registry.connect(settings)
    registry.promote(NAME, 1, "candidate")
    assert answer(run, "resolve", f"{NAME}@candidate") == ref
    registry.promote(NAME, 1)
    (version,) = answer(run, "show", NAME)
    assert version["ref"] == ref
    assert version["aliases"] == ["candidate", "production"]
    assert answer(run, "show", f"{NAME}@production") == version == answer(run, "show", f"{NAME}/1")
    assert version["contract"]["latent_space"]["id"] == "emoji-1"


def test_tables_hold_what_the_json_holds(run: Run, decoder: Path, settings: RegistrySettings) -> None:
    (ref,) = answer(run, "publish", decoder, "--name", NAME)
    Registry.connect(settings).promote(NAME, 1)
    assert "production -> 1" in run("list")[1]
    assert ref["sha256"][:12] in run("show", NAME)[1]
    assert '"scaling_factor": 0.5' in run("show", f"{NAME}/1")[1]
    assert "".join(run("resolve", f"{NAME}/1")[1].split()).count(ref["sha256"]) == 1


def test_what_does_not_fit_production_is_published_and_said(
    run: Run, tmp_path: Path, write_bundle: Callable[[Path], Path], write_component: Callable[..., Path]
) -> None:
    run("publish", write_bundle(tmp_path / "models" / "emoji"))
    wide = write_component(tmp_path / "wide", channels=16)
    status, out, err = run("publish", wide, "--name", NAME, "--json")
    assert status == 0
    assert json.loads(out)[0]["version"] == 2
    said = err.splitlines()
    assert (
        "registry: emoji.vae_decoder/2 does not fit what is in production: emoji.denoiser/1: latent space " in said[0]
    )
    assert "emoji.vae_decoder/1: latent space channels: 16 in place of 4" in err
    assert "latent space channels: 16 in place of 4" in answer(run, "show", f"{NAME}/2")["tags"]["fit.production"]


def test_two_versions_are_compared(
    run: Run, decoder: Path, tmp_path: Path, write_component: Callable[..., Path], settings: RegistrySettings
) -> None:
    run("publish", decoder, "--name", NAME)
    run("publish", write_component(tmp_path / "other", content=b"other", scaling_factor=2.0), "--name", NAME)
    found = answer(run, "diff", NAME, 1, 2)
    assert (found["first"]["version"], found["second"]["version"]) == (1, 2)
    assert found["fields"] == {"latent_space.scaling_factor": ["0.5", "2.0"]}
    assert found["files"] == {"model.onnx.data": [7, 5]}
    assert found["not_interchangeable"] == ["latent space scaling_factor: 0.5 in place of 2.0"]
    assert found["trial"]["reasons"] == ["vae_decoder: its inputs are x, must be latents"], "it could not serve"
    Registry.connect(settings).promote(NAME, 1, "candidate")
    assert answer(run, "diff", f"{NAME}@candidate", f"{NAME}/2") == found | {"trial": found["trial"] | {"figures": ANY}}
    out = run("diff", NAME, 1, 2)[1]
    for words in ("latent_space.scaling_factor", "model.onnx.data, bytes", "not interchangeable", "its inputs are x"):
        assert words in out


def test_an_aliass_tolerance_is_shown_and_stated(run: Run, decoder: Path) -> None:
    run("publish", decoder, "--name", NAME)
    assert answer(run, "tolerance", NAME) == {"name": NAME, "alias": "production", "decibels": 20.0}
    assert answer(run, "tolerance", NAME, 25.5)["decibels"] == 25.5
    assert answer(run, "tolerance", NAME, "--alias", "candidate")["decibels"] == 20.0
    assert "25.5 dB" in run("tolerance", NAME)[1]
    assert answer(run, "tolerance", NAME, "--default")["decibels"] == 20.0


def test_gc_keeps_what_an_alias_points_at(
    run: Run, settings: RegistrySettings, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    registry = Registry.connect(settings)
    paths = []
    for number in range(3):
        source = write_component(tmp_path / str(number), content=bytes([number]) * 1000)
        paths.append(registry.fetch(registry.publish(source, NAME)))
        os.utime(paths[-1], (0, 0))
    registry.promote(NAME, 2)
    found = answer(run, "gc", "--most-bytes", 0)
    assert sorted(each["name"] for each in found["removed"]) == sorted(paths[index].name for index in (0, 2))
    assert found["bytes_freed"] == sum(each["bytes"] for each in found["removed"]) > 2000
    assert found["component_bytes"] > 1000
    assert [path.exists() for path in paths] == [False, True, False]
    assert "which stay" in run("gc")[1]


def test_gc_keeps_what_a_rollback_returns_to(
    run: Run, emoji_settings: RegistrySettings, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    """Of every name that moved, also of one that no rollout knew before."""
    registry = Registry.connect(emoji_settings)
    paths, refs = [], []
    for text in ("first", "second"):
        source = write_component(tmp_path / text, Kind.PREVIEW_DECODER, text.encode())
        refs.append(registry.publish(source, "emoji.preview_decoder"))
        paths.append(registry.fetch(refs[-1]))
        os.utime(paths[-1], (0, 0))
    registry.promote(refs[0].name, refs[0].version)
    settle(registry, "emoji", plan_promotion(registry, [refs[1]]))
    os.environ["LATENTWORKS_HOME"] = str(emoji_settings.home)
    assert answer(run, "gc", "--most-bytes", 0)["removed"] == []
    assert all(path.is_dir() for path in paths)


def test_gc_takes_folder_and_bound_of_compiled_copies_from_where_the_server_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[CompilerSettings] = []

    def collect(_: RegistrySettings, compiler: CompilerSettings, *__: object, **___: object) -> Collected:
        seen.append(compiler)
        return Collected((), (), 0, 0)

    monkeypatch.setattr(gc_command, "collect", collect)
    run("gc")
    monkeypatch.setenv("LATENTWORKS_COMPILER__FOLDER", str(tmp_path / "copies"))
    monkeypatch.setenv("LATENTWORKS_COMPILER__MOST_BYTES", "123")
    run("gc")
    run("gc", "--most-compiled-bytes", 7)
    home = Path(os.environ["LATENTWORKS_HOME"])
    assert [(each.folder, each.most_bytes) for each in seen] == [
        (home / "compiled", CompilerSettings().most_bytes),
        (tmp_path / "copies", 123),
        (tmp_path / "copies", 7),
    ]


def test_fetch_has_here_what_is_live(
    run: Run, tmp_path: Path, write_bundle: Callable[[Path], Path], settings: RegistrySettings
) -> None:
    refs = answer(run, "publish", write_bundle(tmp_path / "models" / "emoji"))
    assert answer(run, "fetch", "emoji", "--kind", "denoiser", "--kind", "vae_decoder") == refs[1:3]
    assert len([path for path in settings.cache.iterdir() if path.is_dir()]) == 2
    assert sorted(ref["name"] for ref in answer(run, "fetch", "emoji")) == sorted(ref["name"] for ref in refs)
    assert len([path for path in settings.cache.iterdir() if path.is_dir()]) == 4


def test_fetch_asks_the_rollout_before_the_alias(
    run: Run, emoji_settings: RegistrySettings, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    registry = Registry.connect(emoji_settings)
    refs = [
        registry.publish(write_component(tmp_path / text, Kind.PREVIEW_DECODER, text.encode()), "emoji.preview_decoder")
        for text in ("first", "second")
    ]
    settle(registry, "emoji", plan_promotion(registry, [refs[0]]))
    registry.promote(refs[1].name, refs[1].version)
    os.environ["LATENTWORKS_HOME"] = str(emoji_settings.home)
    [fetched] = answer(run, "fetch", "emoji", "--kind", "preview_decoder")
    assert fetched == refs[0].model_dump(mode="json")


def test_fetch_finds_nothing_in_an_empty_registry(run: Run) -> None:
    status, out, err = run("fetch", "emoji", "--json")
    assert (status, json.loads(out)) == (0, [])
    assert err == "registry: nothing of emoji is live that could be fetched\n"


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
        (("diff", NAME), "registry: diff: has 1 arguments, must have NAME VERSION VERSION or two selectors"),
        (("diff", NAME, "one", "two"), f"registry: '{NAME}/one': must be NAME@ALIAS or NAME/VERSION"),
        (("tolerance", NAME, "3", "--default"), "registry: --default and a number of decibels: give only one of them"),
        (("tolerance", NAME, "300"), "tolerance.production=300: must be a number of decibels between 0 and 120"),
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

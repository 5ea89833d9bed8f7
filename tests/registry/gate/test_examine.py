"""The gate before real candidates: sound ones, and every one of `BAD`, beside the bundled model in production."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.settings import CompilerSettings
from components.contract import PARTS, Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.reference import ComponentRef, Selector
from components.trial import TrialOrder, TrialReport
from registry.bundle import publish_bundle
from registry.errors import RegistryError
from registry.gate import examine as gate
from registry.gate.examine import GateSettings, Verdict, examine, passed, try_version
from registry.local.gc import collect
from registry.registry import Registry
from registry.settings import RegistrySettings
from registry.version import FIT_TAG, Version
from tests.bad_components import BAD, lenient_cases, other_weights, stored_folder

pytestmark = pytest.mark.slow  # children that open components

EMOJI = Path(__file__).parents[3] / "models" / "emoji"
NAME = "emoji.vae_decoder"
TOLERANCE = 20.0
Gate = Callable[..., Verdict]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, four_parts: Path) -> RegistrySettings:
    """A registry with the bundled model in production, for all tests of this module: they move no alias."""
    settings = RegistrySettings(home=tmp_path_factory.mktemp("gate") / "home")
    publish_bundle(Registry.connect(settings), four_parts, "emoji")
    return settings


@pytest.fixture
def live(registry: Registry) -> dict[Kind, Version]:
    return {kind: registry.version(f"emoji.{kind}", 1) for kind in PARTS}


@pytest.fixture
def hold_to_the_gate(registry: Registry, live: dict[Kind, Version]) -> Gate:
    """Examines a version beside what is in production, in place of the version of its kind there."""

    def hold(ref: ComponentRef, tolerance: float | None = TOLERANCE, **settings: int) -> Verdict:
        candidate = registry.version(ref.name, ref.version)
        kind = candidate.contract.kind
        beside = {other: version for other, version in live.items() if other != kind}
        return examine(registry, candidate, beside, live[kind], GateSettings(**settings), tolerance=tolerance)

    return hold


def require_untouched(registry: Registry) -> None:
    """What serves is what served: the alias, the files behind it, and nothing half-made beside them."""
    assert registry.aliases(NAME) == {"production": 1}
    ComponentFolder.open(registry.fetch(registry.resolve(Selector.parse(f"{NAME}@production")))).verify()


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.stage == "publish"])
def test_what_is_no_component_is_not_published(registry: Registry, tmp_path: Path, name: str) -> None:
    made = BAD[name].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder")
    known = [version.ref for version in registry.versions(NAME)]
    with pytest.raises((ComponentError, RegistryError), match=BAD[name].words):
        registry.publish(made, NAME)
    assert [version.ref for version in registry.versions(NAME)] == known
    require_untouched(registry)


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.stage == "fit"])
def test_what_does_not_fit_is_published_with_a_note_and_opened_by_nobody(
    registry: Registry, hold_to_the_gate: Gate, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = BAD[name].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder")
    ref = registry.publish(made, NAME)
    noted = registry.version(NAME, ref.version).tags[FIT_TAG]
    monkeypatch.setattr(gate, "run_trial", lambda _: pytest.fail("it was opened"))
    verdict = hold_to_the_gate(ref)
    require_refused(registry, ref, verdict, BAD[name].words)
    for other in ("denoiser", "vae_encoder"):
        assert [reason for reason in verdict.reasons if f"does not fit emoji.{other}/1: latent space" in reason]
        assert f"emoji.{other}/1: latent space" in noted
    assert "emoji.vae_decoder/1: latent space" in noted
    with pytest.raises(RegistryError, match=BAD[name].words):
        registry.promote(NAME, ref.version)
    require_untouched(registry)


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.stage == "trial"])
def test_what_does_not_run_as_it_must_is_refused(
    registry: Registry, hold_to_the_gate: Gate, tmp_path: Path, name: str
) -> None:
    made = BAD[name].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder")
    ref = registry.publish(made, NAME)
    # long enough for Python to start in on a busy machine; a loop without an end takes whatever there is
    verdict = hold_to_the_gate(ref, **({"time_s": 5} if name == "an endless loop" else {}))
    require_refused(registry, ref, verdict, BAD[name].words)
    require_untouched(registry)


def require_refused(registry: Registry, ref: ComponentRef, verdict: Verdict, words: str) -> None:
    version = registry.version(ref.name, ref.version)
    assert not verdict.passed
    assert not passed(version, None)
    reasons = "; ".join(verdict.reasons)
    assert re.search(words, reasons)
    assert version.tags["gate.verdict"] == "refused"
    assert version.tags["gate.reasons"] == reasons
    assert "/" not in reasons.replace("emoji.", "").replace("/1: ", ": ")
    assert ref.sha256 not in reasons
    assert "\n" not in reasons


def test_a_sound_version_passes_once(registry: Registry, hold_to_the_gate: Gate, tmp_path: Path) -> None:
    ref = registry.publish(other_weights(EMOJI / "vae_decoder", tmp_path / "vae_decoder", noise=0.001), NAME)
    assert not passed(registry.version(NAME, ref.version), None)
    verdict = hold_to_the_gate(ref)
    assert (verdict.passed, verdict.reasons, verdict.notes) == (True, (), ())
    assert verdict.compared == "pictures of golden latents"
    assert 30 < verdict.figures["psnr_min"] <= verdict.figures["psnr_mean"] < 90
    assert {"open_s", "run_s", "golden_error", "contrast_min", "peak_memory_mb"} <= verdict.figures.keys()

    version = registry.version(NAME, ref.version)
    assert version.tags["gate.verdict"] == "passed"
    assert version.tags["gate.against"] == "emoji.vae_decoder/1"
    assert float(version.tags["gate.psnr_min"]) == pytest.approx(verdict.figures["psnr_min"], rel=1e-5)
    assert passed(version, None)
    assert passed(version, TOLERANCE)
    assert passed(version, 30.0), "it came closer than was asked"
    assert not passed(version, 90.0)


@pytest.mark.parametrize(
    ("key", "value"), [("gate.onnxruntime", "1.0"), ("gate.sha256", "0" * 64), ("gate.verdict", "refused")]
)
def test_a_verdict_holds_for_one_runtime_and_one_digest(
    registry: Registry, hold_to_the_gate: Gate, key: str, value: str
) -> None:
    hold_to_the_gate(registry.version(NAME, 1).ref)
    version = registry.version(NAME, 1)
    assert passed(version, TOLERANCE)
    assert not passed(version.model_copy(update={"tags": version.tags | {key: value}}), TOLERANCE)


def test_a_new_verdict_leaves_nothing_of_the_old_one(
    registry: Registry, hold_to_the_gate: Gate, tmp_path: Path
) -> None:
    ref = registry.publish(other_weights(EMOJI / "vae_decoder", tmp_path / "vae_decoder", noise=0.3), NAME)
    assert not hold_to_the_gate(ref, tolerance=60.0).passed
    assert "60 dB is asked" in registry.version(NAME, ref.version).tags["gate.reasons"]
    assert hold_to_the_gate(ref, tolerance=None).passed
    tags = registry.version(NAME, ref.version).tags
    assert not {"gate.reasons", "gate.tolerance"} & tags.keys()


@pytest.mark.parametrize("kind", [Kind.TEXT_ENCODER, Kind.DENOISER])
def test_a_text_encoder_or_denoiser_draws_with_the_whole_chain(
    registry: Registry, hold_to_the_gate: Gate, live: dict[Kind, Version], tmp_path: Path, kind: Kind
) -> None:
    name = f"emoji.{kind}"
    near = registry.publish(other_weights(EMOJI / kind, tmp_path / "near", noise=0.0005), name)
    far = registry.publish(other_weights(EMOJI / kind, tmp_path / "far", noise=0.5), name)
    verdict = hold_to_the_gate(near)
    assert verdict.passed, verdict.reasons
    assert verdict.compared == "pictures of four prompts"
    assert verdict.figures["picture_s"] > 0
    assert passed(registry.version(name, near.version), TOLERANCE)
    refused = hold_to_the_gate(far)
    assert refused.reasons[0].startswith("pictures of four prompts: PSNR against the current version is")

    alone = examine(registry, registry.version(name, near.version), {}, live[kind], GateSettings(), tolerance=None)
    assert alone.passed
    assert [note for note in alone.notes if note.startswith("drawn with nothing: the bundle has no")]
    assert not passed(registry.version(name, near.version), None), "it has not drawn"


def test_the_vae_encoder_is_held_to_its_golden_cases(
    registry: Registry, hold_to_the_gate: Gate, tmp_path: Path
) -> None:
    name = "emoji.vae_encoder"
    assert hold_to_the_gate(registry.version(name, 1).ref).compared == "golden outputs"
    # the cases stay those of the weights that it was made from
    off = registry.publish(other_weights(EMOJI / "vae_encoder", tmp_path / "off", noise=0.1, golden=False), name)
    assert "vae_encoder: golden case golden-0.npz is off by" in hold_to_the_gate(off).reasons[0]
    # whatever they allow
    lenient = registry.publish(lenient_cases(EMOJI / "vae_encoder", tmp_path / "lenient"), name)
    assert "vae_encoder: golden case golden-0.npz is off by" in hold_to_the_gate(lenient, None).reasons[0]
    # with cases of its own, the current version is what it is held to
    own = registry.publish(other_weights(EMOJI / "vae_encoder", tmp_path / "own", scale=-1.0), name)
    [reason] = hold_to_the_gate(own, GateSettings().tolerances[Kind.VAE_ENCODER]).reasons
    assert reason.startswith("golden outputs: PSNR against the current version is")


def test_what_a_trial_reads_is_held_while_it_lasts(
    registry: Registry,
    settings: RegistrySettings,
    live: dict[Kind, Version],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long ago it was used last, nobody tidies it away."""
    other = registry.publish(other_weights(EMOJI / "denoiser", tmp_path / "denoiser", noise=0.001), "emoji.denoiser")
    compiler = CompilerSettings(folder=tmp_path / "compiled")

    def tidy(order: TrialOrder) -> TrialReport:
        assert order.current is not None
        read = [order.candidate, order.current, *order.beside.values()]
        for path in read:
            for file in (path, path.with_name(f"{path.name}.lease")):
                os.utime(file, (0, 0))
        collect(settings, compiler, (), 0)
        assert (len(read), all(path.is_dir() for path in read)) == (4, True)
        return TrialReport()

    monkeypatch.setattr(gate, "run_trial", tidy)
    beside = dict(live)
    del beside[Kind.DENOISER]
    candidate = registry.version(other.name, other.version)
    try_version(registry, candidate, beside, live[Kind.DENOISER], GateSettings())
    for path in (file for file in settings.cache.iterdir() if not file.is_dir()):
        os.utime(path, (0, 0))
    assert len(collect(settings, compiler, (), 0).components) >= 4, "and afterwards they may go"


def test_damage_in_the_registry_is_a_reason(
    registry: Registry, settings: RegistrySettings, hold_to_the_gate: Gate, tmp_path: Path
) -> None:
    ref = registry.publish(other_weights(EMOJI / "vae_decoder", tmp_path / "vae_decoder", noise=0.002), NAME)
    (stored_folder(settings, ref) / "model.onnx").write_bytes(b"")
    require_refused_at_fetch(registry, ref, hold_to_the_gate(ref), "model.onnx has 0 bytes, component.json says")


def require_refused_at_fetch(registry: Registry, ref: ComponentRef, verdict: Verdict, words: str) -> None:
    [reason] = verdict.reasons
    assert words in reason
    assert registry.version(ref.name, ref.version).tags["gate.reasons"] == reason
    require_untouched(registry)


def test_tags_that_lie_about_the_contract_are_a_reason(
    registry: Registry, hold_to_the_gate: Gate, tmp_path: Path
) -> None:
    """The tags say that it fits; the component itself has another scaling factor."""
    made = BAD["wrong scaling factor"].make(EMOJI / "vae_decoder", tmp_path / "vae_decoder")
    ref = registry.publish(other_weights(made, tmp_path / "liar", noise=0.001), NAME)
    honest = registry.version(NAME, 1).contract.model_dump_json()
    with registry.asking() as client:
        client.set_model_version_tag(NAME, str(ref.version), "contract", honest)
    verdict = hold_to_the_gate(ref)
    assert verdict.reasons == ("its tags in the registry state another contract than its component.json",)


def test_a_broken_current_version_does_not_keep_its_remedy_away(
    registry: Registry, live: dict[Kind, Version], tmp_path: Path
) -> None:
    broken = registry.publish(BAD["random bytes"].make(EMOJI / "vae_decoder", tmp_path / "broken"), NAME)
    current = registry.version(NAME, broken.version)
    verdict = examine(registry, live[Kind.VAE_DECODER], {}, current, GateSettings(), tolerance=TOLERANCE)
    assert verdict.passed
    assert verdict.notes[0].startswith("compared with nothing: the current version does not run: vae_decoder: ONNX")


def test_nothing_to_compare_with_is_a_note(registry: Registry, live: dict[Kind, Version]) -> None:
    verdict = examine(registry, live[Kind.VAE_DECODER], {}, None, GateSettings(), tolerance=TOLERANCE)
    assert verdict.passed
    assert verdict.notes == ("compared with nothing: there is no current version",)
    version = registry.version(NAME, 1)
    assert passed(version, None)
    assert not passed(version, TOLERANCE), "it was held to none"
    assert "gate.tolerance" not in version.tags


def test_a_crash_is_a_reason_and_its_output_goes_to_the_log(
    registry: Registry, hold_to_the_gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("registry.gate.child._COMMAND", ("sh", "-c", "echo secret path >&2; kill -SEGV $$"))
    with caplog.at_level(logging.ERROR):
        verdict = hold_to_the_gate(registry.version(NAME, 1).ref)
    assert verdict.reasons == ("the candidate crashed ONNX Runtime (signal SIGSEGV)",)
    assert "secret path" in caplog.text

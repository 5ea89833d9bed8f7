import json

import pytest
from pydantic import ValidationError

from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.rollout.outcome import followed
from registry.rollout.state import (
    MAX_RECORD_CHARACTERS,
    Canary,
    Plan,
    Rollout,
    Shadow,
    State,
    bundle_of,
    read,
    with_changes,
    written,
)

PLAN = "0" * 32


def ref(name: str, version: int = 1) -> ComponentRef:
    return ComponentRef(name=name, version=version, sha256=f"{version:064x}")


OLD = tuple(ref(f"emoji.{kind}") for kind in ("text_encoder", "denoiser", "vae_decoder", "vae_encoder"))
CANARY = Canary(ref=ref("emoji.denoiser", 2), percent=5, sticky=True)
SHADOW = Shadow(ref=ref("emoji.vae_decoder", 2), percent=12.5)


def test_records_come_back_as_they_were() -> None:
    plan = Plan(id=PLAN, components=OLD, canary=CANARY, shadow=SHADOW)
    rollout = Rollout(plan=PLAN, state="stopped", reason="it is not finite", components=OLD, previous=OLD, former=OLD)
    assert read(Plan, written(plan)) == plan
    assert read(Rollout, written(rollout)) == rollout
    assert read(Plan, None) is None


def test_a_rollout_of_eight_components_fits_into_a_tag() -> None:
    """Each of them changed at once, beside a canary and a shadow, and stopped with the longest of reasons."""
    kinds = ("text_encoder", "text_encoder.t5", "denoiser", "vae_decoder", "vae_encoder", "preview_decoder")
    names = [f"sd35-large.{kind}" for kind in (*kinds, "vae_decoder.tiny", "vae_decoder.sharp")]
    before = Rollout(components=tuple(ref(name, 98) for name in names), state="live")
    canary = CANARY.model_copy(update={"ref": ref(names[2], 100)})
    shadow = SHADOW.model_copy(update={"ref": ref(names[3], 101)})
    plan = Plan(id=PLAN, components=tuple(ref(name, 99) for name in names), canary=canary, shadow=shadow)
    rollout = followed(before, plan)
    assert len(rollout.former) == len(rollout.previous) == 8
    assert len(written(rollout)) <= MAX_RECORD_CHARACTERS

    reason = "\x1b" * 1000  # six characters each in JSON
    text = written(rollout.model_copy(update={"reason": reason}))
    assert len(text) <= MAX_RECORD_CHARACTERS
    found = read(Rollout, text)
    assert found is not None
    assert found.reason is not None
    assert reason.startswith(found.reason)
    assert found.model_copy(update={"reason": None}) == rollout


def test_what_no_tag_can_hold_is_said() -> None:
    many = tuple(ref(f"emoji.vae_decoder.number-{number}") for number in range(60))
    with pytest.raises(RegistryError, match=r"record of 60 components has \d+ characters; a tag .* takes 5000"):
        written(Rollout(components=many, state="stopped", reason="so it is"))


def _damaged(**changes: object) -> str:
    return json.dumps(json.loads(written(Plan(id=PLAN, components=OLD))) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("null", "Input should be an object"),
        (_damaged(id="1"), "'id': String should match pattern"),
        (_damaged(components=None), "'components': Input should be a valid array"),
        (_damaged(components=[json.loads(OLD[0].model_dump_json())] * 2), "a component is there more than once"),
        (_damaged(components=[{"name": "emoji.unet", "version": 1, "sha256": "0" * 64}]), "'emoji.unet': must be"),
        (_damaged(components=[{"name": "emoji.denoiser", "version": 0, "sha256": "0" * 64}]), "'components.0.version'"),
        (_damaged(components=[{"name": "\x1b[2Jx", "version": 1, "sha256": "0" * 64}]), r"'\x1b[2Jx': must be"),
        (_damaged(components=[{"name": "x" * 4000, "version": 1, "sha256": "0" * 64}]), "'xxx"),
        (_damaged(**{"\x1b[2J" + "x" * 5000: 1}), r"'\x1b[2Jxxx"),
        (_damaged(canary={"percent": 5}), "'canary.ref': Field required"),
        (_damaged(shadow={"ref": json.loads(OLD[0].model_dump_json()), "percent": 101}), "'shadow.percent'"),
        (_damaged(shadow={"ref": json.loads(OLD[0].model_dump_json()), "percent": "5"}), "'shadow.percent'"),
    ],
)
def test_a_damaged_record_is_one_sentence(text: str, words: str) -> None:
    """Anyone with access to the registry may have written it."""
    with pytest.raises(RegistryError) as refused:
        read(Plan, text)
    said = str(refused.value)
    assert said.startswith("the bundle's plan in the registry is damaged: ")
    assert words in said
    assert said.endswith("; deleting its tag latentworks.plan mends that")
    assert said.isprintable()
    assert len(said) < 400


def test_changes_keep_the_order() -> None:
    changed = with_changes(OLD, [ref("emoji.preview_decoder"), ref("emoji.denoiser", 2)])
    assert [str(one) for one in changed] == [
        "emoji.text_encoder/1",
        "emoji.denoiser/2",
        "emoji.vae_decoder/1",
        "emoji.vae_encoder/1",
        "emoji.preview_decoder/1",
    ]
    assert State(components=changed).ref("emoji.denoiser") == ref("emoji.denoiser", 2)
    assert State(components=changed).ref("emoji.vae_decoder.tiny") is None


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan"), float("inf")])
def test_a_share_is_over_0_and_at_most_100_percent(percent: float) -> None:
    with pytest.raises(ValidationError):
        Canary(ref=OLD[0], percent=percent)
    with pytest.raises(ValidationError):
        Shadow(ref=OLD[0], percent=percent)


def test_what_was_followed_is_what_a_rollback_returns_to() -> None:
    before = Rollout(components=OLD, state="live", canary=CANARY)
    newer = with_changes(OLD, [ref("emoji.denoiser", 2)])
    first = followed(before, Plan(id=PLAN, components=newer))
    assert (first.components, first.previous, first.former, first.canary) == (newer, OLD, (OLD[1],), None)
    # a canary changes nothing of that, and what changes later adds to `former`
    second = followed(first, Plan(id=PLAN, components=newer, canary=CANARY, shadow=SHADOW))
    assert (second.previous, second.former, second.canary, second.shadow) == (OLD, (OLD[1],), CANARY, SHADOW)
    third = followed(second, Plan(id=PLAN, components=with_changes(newer, [ref("emoji.vae_decoder", 2)])))
    assert (third.previous, third.former) == (newer, (OLD[1], OLD[2]))


def test_versions_belong_to_one_bundle_and_are_of_different_names() -> None:
    decoder = ref("emoji.vae_decoder")
    assert bundle_of([*OLD, ref("emoji.vae_decoder.tiny")]) == "emoji"
    with pytest.raises(RegistryError, match=r"^emoji.vae_decoder: is there more than once$"):
        bundle_of([decoder, ref("emoji.vae_decoder", 2)])
    with pytest.raises(RegistryError, match=r"^emoji, sd15: must be components of one bundle$"):
        bundle_of([ref("sd15.vae_decoder"), decoder])
    with pytest.raises(RegistryError, match=r"^nothing: must be components of one bundle$"):
        bundle_of([])

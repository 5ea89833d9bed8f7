import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contract import Kind
from components.errors import ComponentError
from components.reference import ComponentRef, Selector, kind_of, registered_name


def test_selectors_name_an_alias_or_a_version() -> None:
    assert Selector.parse("emoji.vae_decoder@production").alias == "production"
    assert Selector.parse("sd15.vae_decoder.tiny/2") == Selector(name="sd15.vae_decoder.tiny", version=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "emoji",
        "emoji.vae_decoder",
        "emoji.vae_decoder/0",
        "emoji.vae_decoder/1/2",
        "emoji.vae_decoder@",
        "emoji.vae_decoder@a b",
        "../x.vae_decoder/1",
        "emoji.unet@production",
        "Emoji.vae_decoder/1",
        "emoji.vae_decoder@a@b",
        "emoji.vae_decoder/1e3",
        "emoji.vae_decoder/1\n",
        " emoji.vae_decoder/1",
        "emoji.vae_decoder/+1",
        "emoji.vae_decoder/01",
        "emoji.vae_decoder/٣",
        "emoji.vae_decoder/1000000000",
        "emoji.vae_decoder.a.b/1",
        "emoji.vae_decoder@a/1",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ComponentError):
        Selector.parse(text)


def test_names_are_bundle_and_kind() -> None:
    assert registered_name("emoji", Kind.DENOISER) == "emoji.denoiser"
    assert kind_of(registered_name("sd35", Kind.TEXT_ENCODER, "t5")) == Kind.TEXT_ENCODER
    with pytest.raises(ComponentError):
        registered_name("a/b", Kind.DENOISER)


def test_a_pin_reads_as_name_and_version() -> None:
    assert str(ComponentRef(name="emoji.denoiser", version=3, sha256="0" * 64)) == "emoji.denoiser/3"


_names = st.builds(
    registered_name, st.sampled_from(["emoji", "sd-1_5"]), st.sampled_from(Kind), st.sampled_from([None, "tiny", "4x"])
)


@given(_names, st.integers(1, 999_999_999), st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True))
def test_what_a_selector_writes_it_reads(name: str, version: int, alias: str) -> None:
    for selector in (Selector(name=name, version=version), Selector(name=name, alias=alias)):
        assert Selector.parse(str(selector)) == selector


def test_a_selector_points_at_one_thing() -> None:
    for wrong in ({}, {"alias": "production", "version": 1}, {"version": 0}):
        with pytest.raises(ValidationError):
            Selector.model_validate({"name": "emoji.denoiser"} | wrong)


@pytest.mark.parametrize("name", ["../../etc", "emoji", "emoji.denoiser\nx-injected: 1", "emoji.unet", ""])
def test_a_pin_has_the_name_of_a_component(name: str) -> None:
    with pytest.raises(ComponentError):
        ComponentRef(name=name, version=1, sha256="0" * 64)


def test_a_pin_survives_json() -> None:
    ref = ComponentRef(name="emoji.denoiser", version=3, sha256="0" * 64)
    assert ComponentRef.model_validate_json(ref.model_dump_json(), strict=True) == ref

import pytest

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

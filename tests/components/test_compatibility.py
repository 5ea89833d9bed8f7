import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compatibility import compatible
from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec

SPACE = LatentSpace(id="emoji-1", channels=4, downscale=8, scaling_factor=0.5)
_ANY = (TensorSpec(name="x", dtype="float32", shape=("batch",)),)


def denoiser(space: LatentSpace = SPACE, width: int = 256, name: str = "hidden_states") -> Contract:
    return Contract(
        kind=Kind.DENOISER,
        inputs=_ANY,
        outputs=_ANY,
        latent_space=space,
        conditioning=(Conditioning(name=name, width=width, tokens=32),),
        noise_schedule=NoiseSchedule(
            prediction_type="epsilon",
            num_train_timesteps=1000,
            beta_schedule="linear",
            beta_start=1e-4,
            beta_end=0.02,
        ),
        latent_size=(16, 16),
    )


def text_encoder(width: int = 256) -> Contract:
    conditioning = (Conditioning(name="hidden_states", width=width, tokens=32),)
    return Contract(kind=Kind.TEXT_ENCODER, inputs=_ANY, outputs=_ANY, conditioning=conditioning)


def test_what_fits_has_no_mismatch(decoder: Contract) -> None:
    assert compatible(denoiser(), decoder) == []
    assert compatible(denoiser(), text_encoder()) == []
    assert compatible(text_encoder(), decoder) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "other"), ("channels", 16), ("downscale", 16), ("scaling_factor", 0.18215), ("shift_factor", 0.1)],
)
def test_every_latent_field_counts_in_both_directions(decoder: Contract, field: str, value: object) -> None:
    other = denoiser(SPACE.model_copy(update={field: value}))
    assert [words for words in compatible(other, decoder) if field in words and str(value) in words]
    assert len(compatible(decoder, other)) == 1


_spaces = st.builds(
    LatentSpace,
    id=st.sampled_from(["emoji-1", "sd15"]),
    channels=st.sampled_from([4, 16]),
    downscale=st.just(8),
    scaling_factor=st.sampled_from([0.5, 0.18215]),
    shift_factor=st.sampled_from([0.0, 0.1]),
)
_any_contract = (
    st.builds(denoiser, _spaces, st.sampled_from([256, 512]), st.sampled_from(["hidden_states", "pooled"]))
    | st.builds(text_encoder, st.sampled_from([256, 512]))
    | st.builds(
        lambda kind, space: Contract(kind=kind, inputs=_ANY, outputs=_ANY, latent_space=space),
        st.sampled_from([Kind.VAE_DECODER, Kind.VAE_ENCODER]),
        _spaces,
    )
)


@given(_any_contract, _any_contract)
def test_fitting_is_mutual_and_each_mismatch_is_said_once(a: Contract, b: Contract) -> None:
    there, back = compatible(a, b), compatible(b, a)
    assert len(there) == len(back) == len(set(there))
    if a.kind == b.kind:
        assert there == []
    elif a.latent_space is not None and b.latent_space is not None:
        assert (a.latent_space == b.latent_space) == (not [words for words in there if words.startswith("latent")])


def test_conditioning_must_agree() -> None:
    assert compatible(denoiser(), text_encoder(512)) == [
        "conditioning hidden_states width: denoiser has 256, text_encoder has 512"
    ]
    assert compatible(text_encoder(), denoiser(name="pooled")) == [
        "conditioning hidden_states: text_encoder has it, denoiser has not",
        "conditioning pooled: denoiser has it, text_encoder has not",
    ]


def test_a_kind_without_what_it_needs_is_no_contract() -> None:
    with pytest.raises(ValueError, match="latent_space: missing, and a vae_encoder needs it"):
        Contract(kind=Kind.VAE_ENCODER, inputs=_ANY, outputs=_ANY)

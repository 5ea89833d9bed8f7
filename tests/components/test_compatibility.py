import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compatibility import compatible, interchangeable
from components.contract import (
    BOX_INPUTS,
    PHRASE,
    Conditioning,
    Contract,
    Kind,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)

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


def test_boxes_need_phrases_of_their_width() -> None:
    plain, reading = denoiser(), text_encoder()
    shapes = ((30, 4), (30, 256), (30,), ())
    boxes = (
        TensorSpec(name=name, dtype="float32", shape=("batch", *shape), optional=True)
        for name, shape in zip(BOX_INPUTS, shapes, strict=True)
    )
    boxed = Contract(**{**dict(plain), "inputs": (*plain.inputs, *boxes)})
    assert (boxed.most_boxes, plain.most_boxes) == (30, 0)
    for width, expected in (
        (256, []),
        (128, ["pooler_output dimension 1: text_encoder gives 128, denoiser takes 256"]),
        (None, ["pooler_output: denoiser takes it for boxes, text_encoder gives none"]),
    ):
        phrase = () if width is None else (TensorSpec(name=PHRASE, dtype="float32", shape=("batch", width)),)
        encoder = Contract(**{**dict(reading), "outputs": (*reading.outputs, *phrase)})
        assert compatible(encoder, boxed) == compatible(boxed, encoder) == expected
        assert compatible(encoder, plain) == []
    # what may be left out is no matter
    assert interchangeable(boxed, plain) == []
    assert len(interchangeable(plain, boxed)) == len(BOX_INPUTS)


@pytest.mark.parametrize("kind", [Kind.VAE_DECODER, Kind.PREVIEW_DECODER])
@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "other"), ("channels", 16), ("downscale", 16), ("scaling_factor", 0.18215), ("shift_factor", 0.1)],
)
def test_every_latent_field_counts_in_both_directions(decoder: Contract, kind: Kind, field: str, value: object) -> None:
    decoder = decoder.model_copy(update={"kind": kind})
    other = denoiser(SPACE.model_copy(update={field: value}))
    assert [words for words in compatible(other, decoder) if field in words and str(value) in words]
    assert len(compatible(decoder, other)) == 1


def test_previews_are_of_the_pictures_latents(decoder: Contract) -> None:
    previews = decoder.model_copy(update={"kind": Kind.PREVIEW_DECODER})
    assert compatible(previews, decoder) == []
    assert compatible(previews, denoiser()) == []
    assert compatible(previews, text_encoder()) == []


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
        st.sampled_from([Kind.VAE_DECODER, Kind.VAE_ENCODER, Kind.PREVIEW_DECODER]),
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


def _spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape})


def _text(tokens: int | str = "tokens", dtype: str = "float32") -> TensorSpec:
    return _spec("hidden_states", "batch", tokens, 256, dtype=dtype)


def _latents(name: str, side: int | str = "side", dtype: str = "float32") -> TensorSpec:
    return _spec(name, "batch", 4, side, side, dtype=dtype)


def _with(contract: Contract, **parts: object) -> Contract:
    return Contract.model_validate({**contract.model_dump(), **parts})


def test_a_controlnet_is_told_of_the_picture_what_its_denoiser_is_told() -> None:
    told = (TensorSpec(name="time_ids", dtype="float32", shape=("batch", 2)),)
    plain, of_two = denoiser(), {"inputs": told, "time_ids": ("crop_top", "crop_left")}
    net = Contract(
        kind=Kind.CONTROLNET,
        inputs=told,
        outputs=_ANY,
        latent_space=SPACE,
        conditioning=plain.conditioning,
        time_ids=("crop_top", "crop_left"),
    )
    words = {word for word in compatible(net, plain) if word.startswith("time_ids")}
    assert words == {"time_ids: controlnet has it, denoiser has not"}
    sdxl = plain.model_copy(update=of_two)
    assert not [word for word in compatible(net, sdxl) if word.startswith("time_ids")]
    turned = sdxl.model_copy(update={"time_ids": ("crop_left", "crop_top")})
    wanted = "time_ids: controlnet has crop_top, crop_left, denoiser has crop_left, crop_top"
    assert wanted in compatible(net, turned)


def test_what_is_handed_on_must_be_of_the_dtype_and_fixed_size_that_is_taken(decoder: Contract) -> None:
    giver = _with(denoiser(), outputs=(_latents("prediction", dtype="float16"),))
    assert compatible(giver, decoder) == [
        "prediction as latents dtype: denoiser gives float16, vae_decoder takes float32"
    ]
    assert compatible(decoder, giver) == compatible(giver, decoder)
    fixed = _with(decoder, inputs=(_latents("latents", 64),))
    assert compatible(denoiser(), fixed) == [], "a denoiser that leaves its size open can keep to it"
    assert compatible(_with(denoiser(), outputs=(_latents("prediction", 32),)), fixed) == [
        "prediction as latents dimension 2: denoiser gives 32, vae_decoder takes 64",
        "prediction as latents dimension 3: denoiser gives 32, vae_decoder takes 64",
    ]


def test_a_text_encoders_arrays_must_be_what_the_denoiser_takes() -> None:
    encoder = _with(text_encoder(), outputs=(_text(77, "float16"),))
    assert compatible(encoder, _with(denoiser(), inputs=(_text(),))) == [
        "hidden_states dtype: text_encoder gives float16, denoiser takes float32"
    ]
    assert compatible(_with(denoiser(), inputs=(_text(32, "float16"),)), encoder) == [
        "hidden_states dimension 1: text_encoder gives 77, denoiser takes 32"
    ]
    flat = _with(denoiser(), inputs=(_spec("hidden_states", "batch", 256),))
    assert compatible(encoder, flat)[1:] == [
        "hidden_states shape: text_encoder gives [batch, 77, 256], denoiser takes [batch, 256]"
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "other"), ("downscale", 16), ("scaling_factor", 0.18215), ("shift_factor", 0.1)],
)
def test_two_vaes_are_interchangeable_only_in_one_latent_space(decoder: Contract, field: str, value: object) -> None:
    space = SPACE.model_copy(update={field: value})
    other = decoder.model_copy(update={"latent_space": space})
    assert interchangeable(decoder, decoder) == []
    assert interchangeable(other, decoder) == [f"latent space {field}: {value} in place of {getattr(SPACE, field)}"]
    # neither meets the other in a chain, so that alone would not keep them apart
    assert compatible(other, decoder) == []


def test_a_denoisers_own_affairs_do_not_keep_it_from_anothers_place() -> None:
    schedule = denoiser().noise_schedule
    assert schedule is not None
    other = denoiser().model_copy(
        update={
            "noise_schedule": schedule.model_copy(update={"prediction_type": "v_prediction"}),
            "guidance": 3.0,
            "latent_size": (32, 32),
        }
    )
    assert interchangeable(other, denoiser()) == []
    assert interchangeable(denoiser(width=512, name="pooled"), denoiser()) == [
        "conditioning hidden_states: missing",
        "conditioning pooled: new",
    ]
    assert interchangeable(denoiser(), text_encoder()) == ["kind: denoiser in place of text_encoder"]


def test_a_text_encoder_with_outputs_of_other_layers_takes_anothers_place() -> None:
    """Requests are held to the contract that they are pinned to, so that a rollback to fewer layers stays possible."""
    encoder = text_encoder()
    earlier = _spec("hidden_states_1", "batch", "tokens", 256)
    deep = _with(encoder, outputs=(*encoder.outputs, earlier), skipped_layers=(("hidden_states_1",),))
    assert interchangeable(deep, encoder) == interchangeable(encoder, deep) == []
    other = _with(encoder, outputs=(*encoder.outputs, earlier))
    assert interchangeable(other, encoder) == ["output hidden_states_1: new"]
    assert compatible(deep, denoiser()) == compatible(encoder, denoiser()) == []


def test_inputs_and_outputs_keep_name_dtype_and_fixed_size(decoder: Contract) -> None:
    outputs = (_spec("pixels", "n", 4, "h", "w", dtype="float16"), _spec("alpha", "n"))
    assert interchangeable(_with(decoder, outputs=outputs), decoder) == [
        "output alpha: new",
        "output pixels dtype: float16 in place of float32",
        "output pixels shape: [n, 4, h, w] in place of [batch, 3, height, width]",
    ]
    renamed = (_spec("latents", "rows", 4, "high", "wide"),)
    assert interchangeable(_with(decoder, inputs=renamed), decoder) == [], "how a free dimension is called says nothing"


def test_a_further_input_that_may_be_left_out_keeps_nobody_from_taking_a_place() -> None:
    control = TensorSpec(name="control_0", dtype="float32", shape=("batch", 8, "height", "width"), optional=True)
    plain = denoiser()
    held = plain.model_copy(update={"inputs": (*plain.inputs, control)})
    assert interchangeable(held, plain) == []
    # a ControlNet beside it could tell
    assert interchangeable(plain, held) == ["input control_0: missing"]
    needed = plain.model_copy(update={"inputs": (*plain.inputs, control.model_copy(update={"optional": False}))})
    assert interchangeable(needed, plain) == ["input control_0: new"]

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contract import (
    PARTS,
    Conditioning,
    Contract,
    DynamicShift,
    FlowSchedule,
    Kind,
    LatentProjection,
    LatentSpace,
    NoiseSchedule,
    TensorSpec,
)


def _tensor(name: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape)}


def _denoiser() -> dict[str, Any]:
    return {
        "kind": "denoiser",
        "inputs": [
            _tensor("latents", "batch", 4, "height", "width"),
            _tensor("hidden_states", "batch", "tokens", 256),
        ],
        "outputs": [_tensor("prediction", "batch", 4, "height", "width")],
        "latent_space": {"id": "emoji-1", "channels": 4, "downscale": 8, "scaling_factor": 0.5},
        "conditioning": [{"name": "hidden_states", "width": 256, "tokens": 32}],
        "noise_schedule": {
            "prediction_type": "epsilon",
            "num_train_timesteps": 1000,
            "beta_schedule": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
        },
        "latent_size": [16, 16],
    }


def _flow() -> dict[str, Any]:
    return _denoiser() | {"noise_schedule": None, "flow_schedule": {"num_train_timesteps": 1000, "dynamic": {}}}


def _preview() -> dict[str, Any]:
    return {"factors": [[0.1, 0.2, 0.3]] * 4, "bias": [0.0, 0.1, -0.2]}


def _decoder() -> dict[str, Any]:
    return {
        "kind": "vae_decoder",
        "inputs": [_tensor("latents", "batch", 4, "height", "width")],
        "outputs": [_tensor("pixels", "batch", 3, "height", "width")],
        "latent_space": _denoiser()["latent_space"],
    }


def _preview_decoder() -> dict[str, Any]:
    return _decoder() | {"kind": "preview_decoder"}


def _encoder() -> dict[str, Any]:
    outputs = [_tensor(name, "batch", 4, "height", "width") for name in ("mean", "log_variance")]
    return _decoder() | {"kind": "vae_encoder", "inputs": _decoder()["outputs"], "outputs": outputs}


def _text_encoder() -> dict[str, Any]:
    return {
        "kind": "text_encoder",
        "inputs": [_tensor("input_ids", "batch", "tokens")],
        "outputs": [_tensor("hidden_states", "batch", "tokens", 256)],
        "conditioning": _denoiser()["conditioning"],
    }


def _deep_text_encoder() -> dict[str, Any]:
    names = ("hidden_states", "hidden_states_2", "hidden_states_1")
    outputs = [_tensor(name, "batch", "tokens", 256) for name in names]
    return _text_encoder() | {"outputs": outputs, "skipped_layers": [["hidden_states_2"], ["hidden_states_1"]]}


def _with(path: str, value: object, data: dict[str, Any] | None = None) -> dict[str, Any]:
    data = _denoiser() if data is None else data
    *parents, last = path.split(".")
    place: Any = data
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return data


@pytest.mark.parametrize(
    "data", [_denoiser(), _flow(), _decoder(), _preview_decoder(), _encoder(), _text_encoder(), _deep_text_encoder()]
)
def test_the_data_of_these_tests_are_contracts(data: dict[str, Any]) -> None:
    assert Contract.model_validate(data).kind == data["kind"]


def test_a_bundle_is_whole_without_what_is_beside_it() -> None:
    control = {Kind.CONTROLNET, Kind.ADAPTER, Kind.LORA}
    beside = {Kind.PREVIEW_DECODER, Kind.IMAGE_ENCODER, Kind.THIRD_TEXT_ENCODER, *control}
    assert set(Kind) - set(PARTS) == beside


@pytest.mark.parametrize("part", ["inputs", "outputs", "latent_space"])
@pytest.mark.parametrize("data", [_decoder(), _preview_decoder(), _encoder()])
def test_what_meets_latents_says_what_it_takes_and_gives(data: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=f"{part}: missing, and a {data['kind']} needs it"):
        Contract.model_validate(data | {part: [] if part != "latent_space" else None})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("latent_space.channels", 0),
        ("latent_space.channels", 10**30),
        ("latent_space.downscale", -8),
        ("latent_space.downscale", 10**9),
        ("latent_space.scaling_factor", 0.0),
        ("latent_space.scaling_factor", 1e-300),
        ("latent_space.scaling_factor", float("inf")),
        ("latent_space.shift_factor", float("nan")),
        ("latent_space.shift_factor", -1e300),
        ("latent_space.id", ""),
        ("latent_size", [0, 16]),
        ("latent_size", [16, 10**12]),
        ("latent_size", [16]),
        ("latent_multiple", 0),
        ("latent_multiple", 10**9),
        ("guidance", -0.5),
        ("guidance", 10**9),
        ("noise_schedule.num_train_timesteps", 10**12),
        ("noise_schedule.steps_offset", -1),
        ("noise_schedule.beta_end", 1.0),
        ("noise_schedule.prediction_type", "flow"),
        ("noise_schedule.sigma_schedule", "odd"),
        ("noise_schedule.final_sigmas_type", None),
        ("flow_schedule", {"num_train_timesteps": 1}),
        ("flow_schedule", {"num_train_timesteps": 1000, "shift": 0.0}),
        ("flow_schedule", {"num_train_timesteps": 1000, "sigma_schedule": "simple"}),
        ("flow_schedule", {"num_train_timesteps": 1000, "dynamic": {"patch": 0}}),
        ("flow_schedule", {"num_train_timesteps": 1000, "dynamic": {"time_shift_type": "odd"}}),
        ("preview", {"factors": [[0.1, 0.2]] * 4, "bias": [0.0, 0.0, 0.0]}),
        ("preview", {"factors": [[0.1, 0.2, float("nan")]] * 4, "bias": [0.0, 0.0, 0.0]}),
        ("preview", {"factors": [[0.1, 0.2, 0.3]] * 4, "bias": [0.0, float("inf"), 0.0]}),
        ("conditioning.0.tokens", 10**12),
        ("conditioning.0.width", 0),
        ("inputs.0.shape", ["batch", 0]),
        ("inputs.0.shape", ["batch", ""]),
        ("inputs.0.dtype", "float64"),
        ("inputs", []),
        ("inputs", [_tensor("x", 1), _tensor("x", 2)]),
        ("outputs", [_tensor("x", 1), _tensor("x", 1)]),
        ("kind", "unet"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_field(path: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Contract.model_validate(_with(path, value))
    assert path.split(".")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("data", "path", "value", "words"),
    [
        (
            _denoiser(),
            "inputs.0.shape",
            ["batch", 9, "height", "width"],
            "latents: has shape [batch, 9, height, width], must be [batch, 4, height, width], "
            "as latent_space.channels is 4",
        ),
        (_denoiser(), "outputs.0.shape", ["batch", 8, "height", "width"], "prediction: has shape [batch, 8, "),
        (
            _denoiser(),
            "inputs.0.shape",
            ["batch", "channels", "height", "width"],
            "latents: has shape [batch, channels",
        ),
        (_denoiser(), "inputs.0.shape", ["batch", 4, "pixels"], "latents: has shape [batch, 4, pixels], must be"),
        (_denoiser(), "latent_space.channels", 16, "latents: has shape [batch, 4, height, width], must be [batch, 16"),
        (_decoder(), "inputs.0.shape", ["batch", 16, "height", "width"], "latents: has shape [batch, 16"),
        (_preview_decoder(), "inputs.0.shape", ["batch", 16, "height", "width"], "latents: has shape [batch, 16"),
        (_encoder(), "outputs.0.shape", ["batch", 8, "height", "width"], "mean: has shape [batch, 8"),
        (_encoder(), "outputs.1.shape", ["batch", 8, "height", "width"], "log_variance: has shape [batch, 8"),
        (
            _denoiser(),
            "inputs.1.shape",
            ["batch", "tokens", 768],
            "hidden_states: has shape [batch, tokens, 768], must end in 256, its conditioning's width",
        ),
        (_denoiser(), "conditioning.0.width", 768, "hidden_states: has shape [batch, tokens, 256], must end in 768"),
        (_text_encoder(), "outputs.0.shape", ["batch", "tokens", 64], "hidden_states: has shape [batch, tokens, 64]"),
        (
            _text_encoder(),
            "outputs.0.shape",
            ["batch", "tokens", "width"],
            "hidden_states: has shape [batch, tokens, w",
        ),
        (_text_encoder(), "outputs.0.shape", [], "hidden_states: has shape [], must end in 256"),
        (
            _deep_text_encoder(),
            "outputs.2.shape",
            ["batch", "tokens", 64],
            "hidden_states_1: has shape [batch, tokens, 64], must end in 256, its conditioning's width",
        ),
        (_deep_text_encoder(), "skipped_layers", [["other"]], "skipped_layers: other is no output"),
        (
            _deep_text_encoder(),
            "skipped_layers",
            [["hidden_states_2", "hidden_states_1"]],
            "skipped_layers: has 2 names for clip_skip 2, must have 1, one for each array of conditioning",
        ),
        (
            _denoiser(),
            "skipped_layers",
            [["prediction"]],
            "skipped_layers: must be empty, as a denoiser is no text encoder",
        ),
        (_denoiser(), "latent_multiple", 3, "latent_size=[16, 16]: its sides must be multiples of latent_multiple=3"),
        (_decoder(), "latent_multiple", 2, "latent_multiple=2: must be 1, as a vae_decoder is no denoiser"),
        (_decoder(), "guidance", 2.0, "guidance=2: must be null, as a vae_decoder is no denoiser"),
        (_preview_decoder(), "guidance", 2.0, "guidance=2: must be null, as a preview_decoder is no denoiser"),
        (_decoder(), "preview", _preview(), "preview: must be null, as a vae_decoder is no denoiser"),
        (
            _decoder(),
            "flow_schedule",
            {"num_train_timesteps": 1000},
            "flow_schedule: must be null, as a vae_decoder is no denoiser",
        ),
        (
            _denoiser(),
            "noise_schedule",
            None,
            "noise_schedule, flow_schedule: missing, and a denoiser needs one of the two",
        ),
        (
            _denoiser(),
            "flow_schedule",
            {"num_train_timesteps": 1000},
            "noise_schedule, flow_schedule: there are both, and a denoiser needs one of the two",
        ),
        (
            _flow(),
            "flow_schedule.dynamic",
            {"base_image_seq_len": 4096},
            "max_image_seq_len=4096: must be more than base_image_seq_len=4096",
        ),
        (
            _denoiser(),
            "preview",
            _preview() | {"factors": [[0.1, 0.2, 0.3]] * 3},
            "preview.factors: has 3 rows, must have 4, latent_space.channels",
        ),
    ],
)
def test_a_contract_does_not_contradict_itself(data: dict[str, Any], path: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Contract.model_validate(_with(path, value, deepcopy(data)))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"boxes_on": None}, "inputs: boxes_on is missing beside boxes, box_texts, box_masks"),
        ({"boxes": (30, 5)}, "boxes: has shape [batch, 30, 5], must be [batch, 30, 4]"),
        ({"boxes": (29, 4)}, "boxes: has shape [batch, 29, 4], must be [batch, 30, 4]"),
        ({"box_texts": (256,)}, "box_texts: has shape [batch, 256], must be [batch, a number of boxes, a width]"),
        ({"box_texts": ("boxes", 256)}, "must be [batch, a number of boxes, 256]"),
        ({"box_masks": (30, 1)}, "box_masks: has shape [batch, 30, 1], must be [batch, 30]"),
        ({"boxes_on": (1,)}, "boxes_on: has shape [batch, 1], must be [batch]"),
    ],
)
def test_boxes_are_whole(changed: dict[str, Any], words: str) -> None:
    whole = {"boxes": (30, 4), "box_texts": (30, 256), "box_masks": (30,), "boxes_on": ()}

    def data(shapes: dict[str, Any]) -> dict[str, Any]:
        found = _denoiser()
        boxes = [_tensor(name, "batch", *shape) for name, shape in shapes.items() if shape is not None]
        return found | {"inputs": [*found["inputs"], *boxes]}

    assert Contract.model_validate(data(whole)).most_boxes == 30
    with pytest.raises(ValidationError) as refused:
        Contract.model_validate(data(whole | changed))
    assert words in str(refused.value)


def test_a_multiple_of_both_sides_is_one() -> None:
    assert Contract.model_validate(_denoiser() | {"latent_size": [16, 24], "latent_multiple": 8}).latent_multiple == 8


def test_the_training_timesteps_are_those_of_whichever_schedule() -> None:
    flow = _with("flow_schedule.num_train_timesteps", 500, _flow())
    assert [Contract.model_validate(data).num_train_timesteps for data in (_denoiser(), flow)] == [1000, 500]
    assert Contract.model_validate(_decoder()).num_train_timesteps is None


def test_layers_are_counted_from_the_last() -> None:
    deep, shallow = (Contract.model_validate(data) for data in (_deep_text_encoder(), _text_encoder()))
    assert (deep.most_clip_skip, shallow.most_clip_skip) == (3, 1)
    outputs = [deep.conditioning_outputs(clip_skip)["hidden_states"] for clip_skip in (1, 2, 3)]
    assert outputs == ["hidden_states", "hidden_states_2", "hidden_states_1"]


def test_a_contract_of_before_these_fields_walks_as_it_did() -> None:
    contract = Contract.model_validate(_denoiser())
    assert contract.noise_schedule is not None
    assert (contract.noise_schedule.sigma_schedule, contract.noise_schedule.final_sigmas_type) == ("default", "zero")
    assert (contract.flow_schedule, contract.preview) == (None, None)


_names = st.text(min_size=1, max_size=8)
_spaces = st.builds(
    LatentSpace,
    id=_names,
    channels=st.integers(1, 16),
    downscale=st.integers(1, 64),
    scaling_factor=st.floats(1e-6, 1e6),
    shift_factor=st.floats(-1e6, 1e6),
)
_tensors = st.lists(
    st.builds(
        TensorSpec,
        name=_names,
        dtype=st.sampled_from(["float16", "float32", "int64"]),
        shape=st.lists(st.integers(1, 2**40) | _names, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tensor: tensor.name,
).map(tuple)
# of a name that no tensor above has: tensors of the same name would have to end in its width
_conditioning = st.builds(
    Conditioning, name=_names.map("text for {}".format), width=st.integers(1, 4096), tokens=st.integers(1, 77)
)
_noise_schedules = st.builds(
    NoiseSchedule,
    prediction_type=st.sampled_from(["epsilon", "v_prediction", "sample"]),
    num_train_timesteps=st.integers(1, 1000),
    beta_schedule=st.just("linear"),
    beta_start=st.floats(1e-6, 0.5),
    beta_end=st.floats(1e-6, 0.5),
    final_sigmas_type=st.sampled_from(["zero", "sigma_min"]),
    sigma_schedule=st.sampled_from(["default", "karras", "align_your_steps_sdxl"]),
)
_flow_schedules = st.builds(
    FlowSchedule,
    num_train_timesteps=st.integers(2, 1000),
    shift=st.floats(0.01, 100),
    dynamic=st.none() | st.builds(DynamicShift, base_shift=st.floats(0.01, 100), patch=st.integers(1, 8)),
    sigma_schedule=st.sampled_from(["default", "karras"]),
)
_schedules = st.tuples(_noise_schedules, st.none()) | st.tuples(st.none(), _flow_schedules)
_colours = st.tuples(*[st.floats(-1e6, 1e6)] * 3)


@st.composite
def _contracts(draw: st.DrawFn) -> Contract:
    multiple = draw(st.integers(1, 64))
    space = draw(_spaces)
    noise_schedule, flow_schedule = draw(_schedules)
    factors = st.tuples(*[_colours] * space.channels)
    return Contract(
        kind=Kind.DENOISER,
        inputs=draw(_tensors),
        outputs=draw(_tensors),
        latent_space=space,
        conditioning=(draw(_conditioning),),
        noise_schedule=noise_schedule,
        flow_schedule=flow_schedule,
        latent_size=draw(st.tuples(*[st.integers(1, 256).map(lambda side: side * multiple)] * 2)),
        latent_multiple=multiple,
        preview=draw(st.none() | st.builds(LatentProjection, factors=factors, bias=_colours)),
    )


@given(_contracts())
def test_every_contract_survives_json_exactly(contract: Contract) -> None:
    assert Contract.model_validate_json(contract.model_dump_json(), strict=True) == contract

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec


def _tensor(name: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape)}


def _denoiser() -> dict[str, Any]:
    return {
        "kind": "denoiser",
        "inputs": [_tensor("latents", "batch", 4, "height", "width")],
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


def _with(path: str, value: object) -> dict[str, Any]:
    data = _denoiser()
    *parents, last = path.split(".")
    place: Any = data
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return data


def test_the_data_of_these_tests_is_a_contract() -> None:
    assert Contract.model_validate(_denoiser()).kind == Kind.DENOISER


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
        ("noise_schedule.num_train_timesteps", 10**12),
        ("noise_schedule.steps_offset", -1),
        ("noise_schedule.beta_end", 1.0),
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


_names = st.text(min_size=1, max_size=8)
_spaces = st.builds(
    LatentSpace,
    id=_names,
    channels=st.integers(1, 64),
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
_contracts = st.builds(
    Contract,
    kind=st.just(Kind.DENOISER),
    inputs=_tensors,
    outputs=_tensors,
    latent_space=_spaces,
    conditioning=st.builds(Conditioning, name=_names, width=st.integers(1, 4096), tokens=st.integers(1, 77)).map(
        lambda one: (one,)
    ),
    noise_schedule=st.builds(
        NoiseSchedule,
        prediction_type=st.sampled_from(["epsilon", "v_prediction", "sample"]),
        num_train_timesteps=st.integers(1, 1000),
        beta_schedule=st.just("linear"),
        beta_start=st.floats(1e-6, 0.5),
        beta_end=st.floats(1e-6, 0.5),
    ),
    latent_size=st.tuples(st.integers(1, 1024), st.integers(1, 1024)),
)


@given(_contracts)
def test_every_contract_survives_json_exactly(contract: Contract) -> None:
    assert Contract.model_validate_json(contract.model_dump_json(), strict=True) == contract

"""Control pictures: their check, which steps they hold, and what they add for rows that share a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contract import Contract, Kind, TensorSpec
from components.messages import Arrays, Control, ControlFeatures, ControlPicture
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlFields, check_controls
from pipeline.errors import RequestError
from pipeline.held import Held, added_within, held, require_control
from pipeline.request import RequestRules
from runtime.interrupt import Interrupt
from tests.pipeline.conftest import CHANNELS, CONTRACTS, DOWNSCALE, SPACE, TEXT
from tests.pipeline.test_denoiser import job

F32 = npt.NDArray[np.float32]
RULES = RequestRules()


def feature(name: str, optional: bool) -> TensorSpec:
    shape = ("batch", CHANNELS, "height", "width")
    return TensorSpec(name=name, dtype="float32", shape=shape, optional=optional)


DENOISER = CONTRACTS[Kind.DENOISER]
HELD = DENOISER.model_copy(
    update={
        "inputs": (
            *DENOISER.inputs,
            *(feature(name, optional=True) for name in ("control_0", "control_mid", "adapter_0")),
        )
    }
)
CONTROLNET = Contract(
    kind=Kind.CONTROLNET,
    inputs=DENOISER.inputs,
    outputs=(feature("control_0", optional=False), feature("control_mid", optional=False)),
    latent_space=SPACE,
    conditioning=TEXT,
)
ADAPTER = Contract(
    kind=Kind.ADAPTER,
    inputs=DENOISER.inputs,
    outputs=(feature("adapter_0", optional=False),),
    latent_space=SPACE,
)


@dataclass(eq=False)
class Net:
    """Stands in for a ControlNet: adds `factor` times scale times the picture's first pixel, and notes its runs."""

    factor: float
    contract: Contract = CONTROLNET
    space: Any = SPACE
    runs: list[list[int]] = field(default_factory=list)

    def residuals(
        self,
        asked: Sequence[Arrays],
        images: Sequence[F32],
        scales: Sequence[float],
        interrupt: Interrupt | None = None,  # noqa: ARG002 - as the stage has it
    ) -> list[Arrays]:
        rows = [len(arrays["latents"]) for arrays in asked]
        self.runs.append(rows)
        return [
            {"control_0": np.full((count, 1), self.factor * scale * image[0, 0, 0, 0], np.float32)}
            for image, scale, count in zip(images, scales, rows, strict=True)
        ]


@dataclass
class Walk:
    held: Held
    step: int = 0
    steps: int = 10


def pixels(value: int, side: int = 8 * DOWNSCALE) -> npt.NDArray[np.uint8]:
    return np.full((1, side, side, 3), value, np.uint8)


def asked(rows: int) -> Arrays:
    return {"latents": np.zeros((rows, CHANNELS, 8, 8), np.float32)}


def holding(nets: Sequence[Net], controls: Sequence[ControlPicture], *features: ControlFeatures) -> Held:
    return held(job(controls=tuple(controls), features=features), cast(list[ControlNet], nets), HELD)


@given(
    steps=st.integers(1, 60),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    data=st.data(),
)
def test_the_steps_that_are_held_are_those_of_diffusers(steps: int, ends: list[float], data: st.DataObject) -> None:
    start, end = ends
    step = data.draw(st.integers(0, steps - 1))
    # controlnet_keep of its pipelines
    kept = 1.0 - float(step / steps < start or (step + 1) / steps > end)
    assert Control(start=start, end=end).holds(step, steps) == (kept == 1.0)


def test_each_net_runs_once_for_all_rows_that_want_it_and_sums_keep_their_order() -> None:
    one, other = Net(1.0), Net(1e8)
    first = holding([one, other, one], [ControlPicture(pixels=pixels(255), scale=scale) for scale in (0.1, 1.0, 0.3)])
    second = holding([other], [ControlPicture(pixels=pixels(255), end=0.5)])
    tracks = [Walk(first), Walk(Held()), Walk(second)]
    added = added_within(tracks, [asked(2), asked(1), asked(1)], None)
    assert (one.runs, other.runs) == ([[2, 2]], [[2, 1]])
    expected = (np.float32(0.1) + np.float32(1e8)) + np.float32(0.3)
    np.testing.assert_array_equal(added[0]["control_0"], np.full((2, 1), expected))
    assert added[1] == {}
    np.testing.assert_array_equal(added[2]["control_0"], np.full((1, 1), np.float32(1e8)))
    alone = added_within([Walk(first)], [asked(2)], None)
    np.testing.assert_array_equal(alone[0]["control_0"], added[0]["control_0"])


def test_nothing_runs_for_steps_that_are_not_held() -> None:
    net = Net(1.0)
    late = holding([net], [ControlPicture(pixels=pixels(9), start=0.5)])
    assert added_within([Walk(late, step=4)], [asked(2)], None) == [{}]
    assert net.runs == []
    assert added_within([Walk(late, step=5)], [asked(2)], None)[0].keys() == {"control_0"}


def test_features_are_scaled_summed_up_and_given_to_every_row() -> None:
    maps = np.ones((1, CHANNELS, 8, 8), np.float32)
    by = holding(
        [],
        [],
        ControlFeatures(arrays={"adapter_0": maps}, scale=0.5),
        ControlFeatures(arrays={"adapter_0": maps}, scale=0.25, end=0.5),
    )
    early, late = added_within([Walk(by), Walk(by, step=6)], [asked(2), asked(1)], None)
    np.testing.assert_array_equal(early["adapter_0"], np.full((2, CHANNELS, 8, 8), 0.75, np.float32))
    np.testing.assert_array_equal(late["adapter_0"], np.full((1, CHANNELS, 8, 8), 0.5, np.float32))


def test_what_is_of_another_size_is_refused() -> None:
    with pytest.raises(RequestError, match=r"controls='uint8 \[1, 8, 8, 3\]': must be uint8 \[1, 16, 16, 3\]"):
        holding([Net(1.0)], [ControlPicture(pixels=pixels(0, 8))])
    with pytest.raises(RequestError, match=r"must be float32 \[1, 4, 8, 8\] for this size"):
        holding([], [], ControlFeatures(arrays={"adapter_0": np.ones((1, CHANNELS, 4, 4), np.float32)}))
    with pytest.raises(RequestError, match="controls='adapter_9': must be features adapter_0"):
        holding([], [], ControlFeatures(arrays={"adapter_9": np.ones((1, CHANNELS, 8, 8), np.float32)}))
    with pytest.raises(RequestError, match="one for each of 0 ControlNets"):
        holding([], [ControlPicture(pixels=pixels(0))])


@pytest.mark.parametrize("control", [CONTROLNET, ADAPTER], ids=["controlnet", "adapter"])
def test_a_denoiser_that_takes_nothing_of_it_refuses_it(control: Contract) -> None:
    require_control(control, HELD)
    with pytest.raises(RequestError, match=f"left out: the denoiser takes nothing of a {control.kind}") as refused:
        require_control(control, DENOISER)
    assert refused.value.field == "controls"


def test_a_controlnet_of_other_residuals_or_latents_is_refused_with_every_mismatch() -> None:
    longer = CONTROLNET.model_copy(update={"outputs": (*CONTROLNET.outputs, feature("control_1", optional=False))})
    with pytest.raises(RequestError, match="control_1: controlnet has it, denoiser has not"):
        require_control(longer, HELD)
    shorter = CONTROLNET.model_copy(update={"outputs": CONTROLNET.outputs[:1]})
    with pytest.raises(RequestError, match="control_mid: denoiser has it, controlnet has not"):
        require_control(shorter, HELD)
    space = SPACE.model_copy(update={"id": "other"})
    with pytest.raises(RequestError, match="latent space id"):
        require_control(CONTROLNET.model_copy(update={"latent_space": space}), HELD)
    text = (TEXT[0].model_copy(update={"width": 12}),)
    with pytest.raises(RequestError, match="conditioning hidden_states width"):
        require_control(CONTROLNET.model_copy(update={"conditioning": text}), HELD)


def test_the_defaults_hold_a_whole_walk() -> None:
    assert check_controls([ControlFields(), ControlFields(scale=2, start=0.25)], RULES) == [
        Control(scale=1.0, start=0.0, end=1.0),
        Control(scale=2.0, start=0.25, end=1.0),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scale": 2.5}, "controls[0].scale=2.5: must be a number between 0 and 2"),
        ({"scale": float("nan")}, "controls[0].scale=nan: must be a number between 0 and 2"),
        ({"scale": True}, "controls[0].scale=True: must be a number between 0 and 2"),
        ({"start": -0.1}, "controls[0].start=-0.1: must be a number between 0 and 1"),
        ({"end": "1"}, "controls[0].end='1': must be a number between 0 and 1"),
        ({"start": 0.5, "end": 0.5}, "controls[0].start=0.5: must be less than its end, 0.5"),
        ({"end": 0}, "controls[0].start=0.0: must be less than its end, 0"),
    ],
)
def test_a_field_outside_its_limits_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_controls([ControlFields(**fields)], RULES)
    assert str(refused.value) == words


def test_more_than_allowed_are_refused_by_their_number() -> None:
    with pytest.raises(RequestError, match="controls: has 5 pictures, must have at most 4"):
        check_controls([ControlFields()] * 5, RULES)
    with pytest.raises(RequestError, match="controls: has 1 pictures, must have at most 0"):
        check_controls([ControlFields()], RequestRules(max_controls=0))

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from components.contract import Contract, Kind, TensorSpec
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.runtime.conftest import CONTRACT, SPACE, MakeFolder, model
from tests.runtime.test_feeds import DENOISER

CPU = SessionSettings(threads=1, provider="cpu")
UNET = DENOISER.model_copy(update={"inputs": DENOISER.inputs[:1]})


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def decoder(downscale: int) -> Contract:
    return CONTRACT.model_copy(update={"latent_space": SPACE.model_copy(update={"downscale": downscale})})


def encoder(downscale: int) -> Contract:
    return Contract(
        kind=Kind.VAE_ENCODER,
        inputs=(spec("pixels", "batch", 3, "height", "width"),),
        outputs=(spec("mean", "batch", 4, "height", "width"),),
        latent_space=SPACE.model_copy(update={"downscale": downscale}),
    )


def encoding(stride: int) -> bytes:
    return model(given="pixels", made="mean", channels=3, out_channels=4, stride=stride)


def latents(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((3, 4, 7, 2), np.float32)


def test_it_computes_what_the_graph_says(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), CPU)
    outputs = session.run({"latents": latents(1)})
    assert outputs.keys() == {"pixels"}
    np.testing.assert_allclose(outputs["pixels"][:, 1], latents(1).mean(axis=1), atol=1e-6)
    assert session.provider == "cpu"


def test_auto_reports_what_attached(make_folder: MakeFolder) -> None:
    assert Session.open(make_folder(), SessionSettings()).provider in {"cpu", "cuda"}


def test_it_runs_in_several_threads_at_once(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), CPU)
    alone = [session.run({"latents": latents(seed)})["pixels"] for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: session.run({"latents": latents(seed)})["pixels"], range(16)))
    np.testing.assert_array_equal(together, alone)


def long_model(nodes: int) -> bytes:
    """`model()` after so many nodes that each take as long."""
    once = onnx.load_from_string(model())
    names = ["latents", *(f"after_{index}" for index in range(nodes))]
    steps = [helper.make_node("Tanh", [before], [after]) for before, after in pairwise(names)]
    once.graph.node[0].input[0] = names[-1]
    mean = once.graph.node.pop()
    once.graph.node.extend([*steps, mean])
    content: bytes = once.SerializeToString()
    return content


def test_a_run_told_to_stop_before_it_begins_ends_at_once_and_the_next_runs(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), CPU)
    expected = session.run({"latents": latents(1)}, Interrupt())["pixels"]
    interrupt = Interrupt()
    assert not interrupt.asked
    interrupt.break_off()
    assert interrupt.asked
    with pytest.raises(RuntimeFault, match="vae_decoder"):
        session.run({"latents": latents(1)}, interrupt)
    # a new one each time: the session is as it was
    np.testing.assert_array_equal(session.run({"latents": latents(1)}, Interrupt())["pixels"], expected)
    np.testing.assert_array_equal(session.run({"latents": latents(1)})["pixels"], expected)


def test_a_run_is_broken_off_in_its_middle_and_others_are_not(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(long_model(nodes=600)), CPU)
    feeds = {"latents": np.zeros((1, 4, 256, 256), np.float32)}
    begun = time.monotonic()
    expected = session.run(feeds)["pixels"]
    whole = time.monotonic() - begun
    interrupt = Interrupt()
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(session.run, feeds, Interrupt())
        broken = pool.submit(session.run, feeds, interrupt)
        time.sleep(whole / 10)
        interrupt.break_off()
        with pytest.raises(RuntimeFault):
            broken.result()
        assert not other.done(), "it took as long as a run"
        np.testing.assert_array_equal(other.result()["pixels"], expected)


def test_a_run_that_has_ended_is_not_broken_off(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), CPU)
    interrupt = Interrupt()
    made = session.run({"latents": latents(1)}, interrupt)["pixels"]
    interrupt.break_off()
    np.testing.assert_array_equal(session.run({"latents": latents(1)})["pixels"], made)


def test_inputs_are_fed_by_name(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), CPU)
    with pytest.raises(RuntimeFault, match="input latents: missing; input sample: unknown"):
        session.run({"sample": latents(1)})
    with pytest.raises(RuntimeFault, match="latents"):
        session.run({"latents": latents(1)[..., 0]})
    session.run({"latents": latents(1)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            model(given="sample"),
            "input latents: the contract has it, the graph has not; input sample: the graph has it",
        ),
        (model(made="image"), "output image: the graph has it, the contract has not"),
        (model(channels=16), "input latents dimension 1: the contract says 4, the graph 16"),
        (model(dtype=TensorProto.FLOAT16), "input latents: the contract says float32, the graph float16"),
        (model()[:-20], "ONNX Runtime cannot load graph"),
        (b"", "ONNX Runtime cannot load graph"),
        (bytes(range(256)), "ONNX Runtime cannot load graph"),
    ],
)
def test_what_is_not_its_contract_does_not_open(make_folder: MakeFolder, content: bytes, words: str) -> None:
    folder = make_folder(content)
    with pytest.raises(RuntimeFault) as caught:
        Session.open(folder, CPU)
    assert words in str(caught.value)
    assert str(folder.path) not in str(caught.value)


def test_a_free_dimension_must_be_free_in_the_model(make_folder: MakeFolder) -> None:
    with pytest.raises(RuntimeFault, match="input latents dimension 2: the contract says height, the graph 8"):
        Session.open(make_folder(model(height=8)), CPU)


@pytest.mark.parametrize(
    ("contract", "content"),
    [(UNET, model(made="prediction", out_channels=4)), (encoder(1), encoding(1)), (encoder(4), encoding(4))],
)
def test_what_keeps_its_contract_opens(make_folder: MakeFolder, contract: Contract, content: bytes) -> None:
    assert Session.open(make_folder(content, contract=contract), CPU).contract == contract


@pytest.mark.parametrize(
    ("contract", "content", "words"),
    [
        (decoder(8), model(), "output pixels: promised [1, 3, 64, 64], came [1, 3, 8, 8]"),
        (encoder(4), encoding(2), "output mean: promised [1, 4, 8, 8], came [1, 4, 16, 16]"),
        (
            UNET,
            model(made="prediction", out_channels=4, stride=2),
            "output prediction: promised [1, 4, 16, 24], came [1, 4, 8, 12]",
        ),
    ],
)
def test_outputs_of_another_shape_than_promised_do_not_open(
    make_folder: MakeFolder, contract: Contract, content: bytes, words: str
) -> None:
    """The graphs leave the sides open, as the contracts do: only a run shows what they make."""
    with pytest.raises(RuntimeFault) as caught:
        Session.open(make_folder(content, contract=contract), CPU)
    assert str(caught.value).startswith(f"{contract.kind}: the graph breaks its contract: {words}")


@pytest.mark.parametrize("side", [2**28, 2**62, 10**4000])
def test_a_dimension_beyond_all_memory_is_one_fault(make_folder: MakeFolder, side: int) -> None:
    contract = CONTRACT.model_copy(update={"inputs": (spec("latents", "batch", 4, side, "width"),)})
    with pytest.raises(RuntimeFault, match=r"vae_decoder: .*latents \[1, 4, \d+, 8\].* 1073741824 bytes"):
        Session.open(make_folder(contract=contract), CPU)


def test_its_options_reach_onnx_runtime(make_folder: MakeFolder) -> None:
    session = Session.open(make_folder(), SessionSettings(threads=3, provider="cpu"))
    options = session._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_asked_for_attaches_or_the_start_fails(make_folder: MakeFolder, provider: str) -> None:
    settings = SessionSettings.model_validate({"provider": provider})
    try:
        session = Session.open(make_folder(), settings)
    except RuntimeFault as fault:
        assert str(fault).startswith(f"provider {provider}: ")  # noqa: PT017 - with a GPU it attaches
    else:
        assert session.provider == provider

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto

from components.contract import TensorSpec
from runtime.errors import RuntimeFault
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.runtime.conftest import MakeFolder, model

CPU = SessionSettings(threads=1, provider="cpu")


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
    free = TensorSpec(name="latents", dtype="float32", shape=("batch", "channels", "height", "width"))
    with pytest.raises(RuntimeFault, match="input latents dimension 1: the contract says channels, the graph 4"):
        Session.open(make_folder(inputs=(free,)), CPU)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_asked_for_attaches_or_the_start_fails(make_folder: MakeFolder, provider: str) -> None:
    settings = SessionSettings.model_validate({"provider": provider})
    try:
        session = Session.open(make_folder(), settings)
    except RuntimeFault as fault:
        assert str(fault).startswith(f"provider {provider}: ")  # noqa: PT017 - with a GPU it attaches
    else:
        assert session.provider == provider

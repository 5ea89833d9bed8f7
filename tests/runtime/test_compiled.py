import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest

from components.errors import ComponentError
from runtime.compiled import COMPILED_GRAPH, CompiledFolder, recipe
from runtime.errors import RuntimeFault
from runtime.golden import golden_inputs, require_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.runtime.conftest import MakeFolder, model

CPU = SessionSettings(threads=1, provider="cpu")


class Held:
    """What a session is to keep."""


def compiled(make_folder: MakeFolder, path: Path, lease: object = None) -> CompiledFolder:
    folder = make_folder()
    copy = path / "copy"
    copy.mkdir()
    Session.compile(folder, CPU, copy)
    return CompiledFolder(folder.path, folder.manifest, copy, lease)


def test_a_copy_gives_what_the_exported_graph_gives(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = compiled(make_folder, tmp_path)
    session = Session.open(folder, SessionSettings())
    require_golden(session, folder)
    (folder.path / "model.onnx").unlink()
    again = Session.open(folder, CPU)
    [feeds] = golden_inputs(session, folder)
    np.testing.assert_array_equal(again.run(feeds)["pixels"], session.run(feeds)["pixels"])
    assert session.provider == "cpu"


def test_a_copy_is_held_to_the_contract(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = compiled(make_folder, tmp_path)
    (folder.copy / COMPILED_GRAPH).write_bytes(model(made="other"))
    with pytest.raises(RuntimeFault, match=r"vae_decoder: its compiled copy breaks its contract: output other"):
        Session.open(folder, CPU)
    (folder.copy / COMPILED_GRAPH).write_bytes(model(out_channels=4))
    with pytest.raises(RuntimeFault, match=r"the contract says 3, the graph 4"):
        Session.open(folder, CPU)


def test_a_copy_that_is_no_graph_is_one_fault(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = compiled(make_folder, tmp_path)
    (folder.copy / COMPILED_GRAPH).write_bytes(b"no graph")
    with pytest.raises(RuntimeFault, match="vae_decoder: ONNX Runtime cannot load its compiled copy"):
        Session.open(folder, CPU)


@pytest.mark.slow
def test_a_session_keeps_the_lease_of_its_copy(make_folder: MakeFolder, tmp_path: Path) -> None:
    held = Held()
    gone = weakref.ref(held)
    session = Session.open(compiled(make_folder, tmp_path, held), CPU)
    del held
    gc.collect()
    assert gone() is not None
    assert session.provider == "cpu"
    del session
    gc.collect()
    assert gone() is None


def test_another_graph_of_the_component_has_no_copy(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="no graph 'control'"):
        Session.open(compiled(make_folder, tmp_path), CPU, "control")


def test_a_recipe_is_plain_text() -> None:
    assert json.loads(json.dumps(recipe())) == recipe()
    assert recipe()["onnxruntime"].count(".") == 2


def test_a_folder_that_cannot_be_written_is_one_fault(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="vae_decoder: ONNX Runtime cannot"):
        Session.compile(make_folder(), CPU, tmp_path / "nowhere")

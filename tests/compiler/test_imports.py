"""What a replica imports when its component and the copy of it are on the node."""

import subprocess
import sys
from pathlib import Path

import pytest

from compiler.copies import CompiledCopies
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.settings import RegistrySettings
from tests.compiler.conftest import CPU

_START = """
import sys
from components.folder import ComponentFolder
from components.reference import ComponentRef
from compiler.copies import CompiledCopies
from compiler.settings import CompilerSettings
from registry.local.fetch import fetch
from registry.settings import RegistrySettings
from runtime.settings import SessionSettings
import services.denoiser
from pipeline.denoiser import Denoiser
ref, settings, compiler = (kind.model_validate_json(text) for kind, text in
                           zip((ComponentRef, RegistrySettings, CompilerSettings), sys.argv[1:]))
folder = ComponentFolder.open(fetch(ref, settings))
opened = CompiledCopies(compiler).open(Denoiser, folder, SessionSettings(threads=1, provider="cpu"), wait=False)
print(opened.outcome, opened.stage.provider, sorted({"mlflow", "torch", "onnx", "sqlalchemy"} & sys.modules.keys()))
"""


@pytest.mark.slow
def test_a_replica_that_finds_all_on_its_node_imports_no_mlflow(
    component: ComponentFolder, settings: CompilerSettings, tmp_path: Path
) -> None:
    registry = RegistrySettings(home=tmp_path / "home")
    ref = ComponentRef(name="toy.denoiser", version=1, sha256=component.digest)
    registry.cache.mkdir(parents=True)
    component.path.rename(registry.cache / ref.sha256)
    CompiledCopies(settings).build(ComponentFolder.open(registry.cache / ref.sha256), CPU)
    texts = (ref.model_dump_json(), registry.model_dump_json(), settings.model_dump_json())
    run = subprocess.run([sys.executable, "-c", _START, *texts], capture_output=True, text=True, check=True)
    assert run.stdout == "hit cpu []\n"

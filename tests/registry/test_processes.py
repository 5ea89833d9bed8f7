"""Several processes publish and fetch at once, as replicas on a first start do."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.contract import PARTS
from components.folder import ComponentFolder
from registry.registry import Registry
from registry.settings import RegistrySettings

_START = """
import sys
from pathlib import Path
from registry.bundle import publish_bundle
from registry.registry import Registry
from registry.settings import RegistrySettings
registry = Registry.connect(RegistrySettings(home=Path(sys.argv[1])))
for ref in publish_bundle(registry, Path(sys.argv[2]), "emoji"):
    print(ref, registry.fetch(ref))
"""


@pytest.mark.slow
def test_a_first_start_by_several_processes_gives_one_version_and_one_copy(
    tmp_path: Path, write_bundle: Callable[[Path], Path]
) -> None:
    """Even the database is made here."""
    home, bundle = tmp_path / "home", write_bundle(tmp_path / "emoji")
    command = [sys.executable, "-W", "error", "-W", "ignore:The ``noload``", "-c", _START, str(home), str(bundle)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=240) for process in running]
    assert {error for _, error in answers} == {""}
    assert len({output for output, _ in answers}) == 1
    assert [line.split()[0] for line in answers[0][0].splitlines()] == [f"emoji.{kind}/1" for kind in PARTS]

    settings = RegistrySettings(home=home)
    registry = Registry.connect(settings)
    assert [len(registry.versions(name)) for name in registry.names()] == [1, 1, 1, 1]
    copies = {path for path in settings.cache.iterdir() if path.is_dir()}
    assert {path.name for path in copies} == {ComponentFolder.open(bundle / kind).digest for kind in PARTS}
    for path in copies:
        ComponentFolder.open(path).verify()

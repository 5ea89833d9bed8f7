import subprocess
import sys
from pathlib import Path

from registry.local.fetch import fetch
from registry.registry import Registry
from registry.settings import RegistrySettings

_AGAIN = """
import sys
from components.reference import ComponentRef
from registry.local.fetch import fetch
from registry.settings import RegistrySettings
ref, settings = ComponentRef.model_validate_json(sys.argv[1]), RegistrySettings.model_validate_json(sys.argv[2])
print(fetch(ref, settings), "mlflow" in sys.modules)
"""


def test_a_replica_downloads_once_and_then_needs_no_mlflow(
    registry: Registry, settings: RegistrySettings, decoder: Path
) -> None:
    ref = registry.publish(decoder, "emoji.vae_decoder")
    path = fetch(ref, settings)
    assert path == settings.cache / ref.sha256
    command = [sys.executable, "-c", _AGAIN, ref.model_dump_json(), settings.model_dump_json()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"{path} False\n"

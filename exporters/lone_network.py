"""A folder of diffusers that holds one network alone."""

from pathlib import Path
from typing import Any

from exporters.checkpoint_folder import read_json, read_network, require_safetensors
from exporters.errors import ExportError

CONFIG_NAME = "config.json"


def read_lone(network: Any, folder: Path) -> Any:
    """The network of that class in a folder, in float32, its weights from safetensors files alone.

    Raises:
        ExportError: it is of another class, or its weights are missing, damaged or not safetensors.
    """
    name = folder.absolute().name
    found = read_json(folder, CONFIG_NAME).get("_class_name")
    if found != network.__name__:
        raise ExportError(f"{CONFIG_NAME}: is for {found}; {network.__name__} can be exported")
    require_safetensors(folder.absolute().parent, name)
    return read_network(folder, network)

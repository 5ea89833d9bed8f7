"""A folder of diffusers that holds one network alone."""

from pathlib import Path
from typing import Any

import torch

from exporters.checkpoint_folder import read_json, require_safetensors
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
    # published folders come in either precision
    halves = all(".fp16." in file.name for file in folder.glob("*.safetensors"))
    try:
        read = network.from_pretrained(
            folder,
            use_safetensors=True,
            variant="fp16" if halves else None,
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
        )
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise ExportError(f"{name}: its weights or configuration cannot be read ({type(error).__name__})") from None
    return read.eval().requires_grad_(False)

"""LoRAs of a request: their components opened, and what several at once put into a row of the denoiser."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.contract import Contract, Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.lora import adapted_layers, down_name, lora_differences, up_name
from components.messages import Arrays, FloatArray, LoraChoice
from pipeline.checks import check_name
from pipeline.errors import RequestError, refuse
from runtime.session import Session
from runtime.settings import SessionSettings

# several times what any is trained for; far beyond, numbers overflow
LARGEST_SCALE = 100.0


class Lora:
    """A LoRA's arrays, in memory; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component, and keep nothing of it but its arrays.

        Raises:
            ComponentError: it is no LoRA.
            RuntimeFault: as `Session.open`.
        """
        contract = folder.manifest.contract
        _require_lora(folder.path.name, contract)
        session = Session.open(folder, settings)
        self.contract = contract
        self.provider = session.provider
        self.layers = frozenset(adapted_layers(contract.outputs))
        self.arrays: Arrays = session.run({})


def lora_arrays(chosen: Sequence[tuple[Lora, float]]) -> Arrays:
    """What a row takes that draws with all of these: their ranks side by side, each scale within `up`."""
    layers = dict.fromkeys(layer for lora, _ in chosen for layer in lora.layers)
    arrays: dict[str, FloatArray] = {}
    for layer in layers:
        down, up = down_name(layer), up_name(layer)
        parts = [
            (lora.arrays[down], np.float32(scale) * lora.arrays[up]) for lora, scale in chosen if layer in lora.layers
        ]
        arrays[down] = np.concatenate([part for part, _ in parts], axis=1)
        arrays[up] = np.concatenate([part for _, part in parts], axis=2)
    return arrays


class LoraShelf:
    """The LoRAs that a denoiser's requests may name, in memory; usable from any number of threads at once."""

    def __init__(self, folders: Mapping[str, ComponentFolder], denoiser: Contract, settings: SessionSettings) -> None:
        """Open the components by the names that requests know them by.

        Raises:
            ComponentError: one is no LoRA, or does not fit the denoiser.
            RuntimeFault: as `Session.open`.
        """
        self._loras = {name: _open(name, folder, denoiser, settings) for name, folder in folders.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may name."""
        return tuple(self._loras)

    def arrays(self, choices: Sequence[LoraChoice]) -> Arrays:
        """What a row takes that draws with all of these, as `lora_arrays`."""
        return lora_arrays([(self._loras[choice.model], choice.scale) for choice in choices])


def check_loras(given: Any, known: Sequence[str] | None, most: int) -> tuple[LoraChoice, ...]:
    """A request's `loras`, each a mapping with the name of a `model` and its `scale`, 1 if not given.

    `known` are those that may be named, None where others know that.

    Raises:
        RequestError: there are more than `most`, or one is none of the `known`, twice there or of no finite scale.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise refuse("loras", given, "a list of objects with model and scale")
    if len(given) > most:
        raise refuse("loras", f"{len(given)} LoRAs", f"at most {most}")
    choices: list[LoraChoice] = []
    for one in given:
        if not isinstance(one, Mapping) or not {"model"} <= set(one) <= {"model", "scale"}:
            raise refuse("loras", one, "an object with model and, if it is not 1, scale")
        model, scale = one["model"], one.get("scale", 1.0)
        if known is not None:
            if not known:
                raise RequestError("loras", "loras: must be left out, as there are none here")
            check_name("loras", model, dict.fromkeys(known))
        number = isinstance(scale, int | float) and not isinstance(scale, bool)
        if not number or not -LARGEST_SCALE <= scale <= LARGEST_SCALE:
            raise refuse("loras", f"scale {scale}", f"a scale between {-LARGEST_SCALE:g} and {LARGEST_SCALE:g}")
        if model in (choice.model for choice in choices):
            raise refuse("loras", model, "named once")
        choices.append(LoraChoice(model, float(scale)))
    return tuple(choices)


def _open(name: str, folder: ComponentFolder, denoiser: Contract, settings: SessionSettings) -> Lora:
    contract = folder.manifest.contract
    _require_lora(name, contract)
    if differences := lora_differences(contract, denoiser):
        raise ComponentError(f"{name}: does not fit the denoiser: {'; '.join(differences)}")
    return Lora(folder, settings)


def _require_lora(name: str, contract: Contract) -> None:
    if contract.kind != Kind.LORA:
        raise ComponentError(f"{name}: is a {contract.kind}, must be a {Kind.LORA}")

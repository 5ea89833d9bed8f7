"""LoRAs of a request: what a denoiser that takes them calls its inputs, and a component `lora` its outputs."""

from collections.abc import Iterable

from components.contract import Contract, TensorSpec

_PREFIX = "lora."
_DOWN, _UP = ".down", ".up"


def down_name(layer: str) -> str:
    """The array [batch, rank, in] of a layer: what its inputs are projected to."""
    return f"{_PREFIX}{layer}{_DOWN}"


def up_name(layer: str) -> str:
    """The array [batch, out, rank] of a layer: what becomes of that, and is added to its outputs."""
    return f"{_PREFIX}{layer}{_UP}"


def lora_specs(layer: str, taken: int, given: int, *, batch: int | str, rank: int | str) -> tuple[TensorSpec, ...]:
    """Both arrays of a layer that takes `taken` channels and gives `given`."""
    optional = isinstance(batch, str)
    return (
        TensorSpec(name=down_name(layer), dtype="float32", shape=(batch, rank, taken), optional=optional),
        TensorSpec(name=up_name(layer), dtype="float32", shape=(batch, given, rank), optional=optional),
    )


def adapted_layers(specs: Iterable[TensorSpec]) -> dict[str, tuple[int, int]]:
    """The layers that a denoiser's inputs let a request adapt, or that a LoRA's outputs adapt: channels in and out."""
    shapes = {spec.name: spec.shape for spec in specs if spec.name.startswith(_PREFIX)}
    layers = [name.removeprefix(_PREFIX).removesuffix(_DOWN) for name in shapes if name.endswith(_DOWN)]
    return {layer: (int(shapes[down_name(layer)][2]), int(shapes[up_name(layer)][1])) for layer in layers}


def lora_differences(lora: Contract, denoiser: Contract) -> list[str]:
    """What of a LoRA a denoiser cannot take, in words; an empty list means that it fits."""
    open_to = adapted_layers(denoiser.inputs)
    if not open_to:
        return ["the denoiser takes no LoRAs of requests"]
    found = []
    for layer, (taken, given) in adapted_layers(lora.outputs).items():
        if layer not in open_to:
            found.append(f"{layer}: the denoiser takes no LoRA there")
        elif (taken, given) != open_to[layer]:
            own = " to ".join(map(str, open_to[layer]))
            found.append(f"{layer}: {taken} to {given} channels, the denoiser has {own}")
    return found

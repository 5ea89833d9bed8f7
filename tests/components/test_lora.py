from components.contract import Contract, Kind, LatentSpace, TensorSpec
from components.lora import adapted_layers, lora_differences, lora_specs


def lora(*layers: tuple[str, int, int]) -> Contract:
    outputs = [spec for layer in layers for spec in lora_specs(*layer, batch=1, rank=4)]
    return Contract(kind=Kind.LORA, inputs=(), outputs=tuple(outputs))


def taker(*layers: tuple[str, int, int]) -> Contract:
    """Any contract with inputs: what else a denoiser has does not matter here."""
    inputs = [spec for layer in layers for spec in lora_specs(*layer, batch="batch", rank="rank")]
    return Contract(
        kind=Kind.VAE_DECODER,
        inputs=(TensorSpec(name="latents", dtype="float32", shape=("batch", 4, "height", "width")), *inputs),
        outputs=(TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width")),),
        latent_space=LatentSpace(id="test", channels=4, downscale=8, scaling_factor=1.0),
    )


def test_a_requests_arrays_may_be_left_out_and_a_loras_own_are_of_one_row() -> None:
    assert all(spec.optional for spec in taker(("a.to_q", 8, 16)).inputs[1:])
    assert [spec.shape for spec in lora(("a.to_q", 8, 16)).outputs] == [(1, 4, 8), (1, 16, 4)]
    assert adapted_layers(lora(("a.to_q", 8, 16)).outputs) == {"a.to_q": (8, 16)}


def test_a_lora_fits_where_its_layers_are_whatever_else_may_be_adapted() -> None:
    assert lora_differences(lora(("a.to_q", 8, 16)), taker(("a.to_q", 8, 16), ("b.to_k", 4, 4))) == []


def test_what_does_not_fit_is_named() -> None:
    assert lora_differences(lora(("a.to_q", 8, 16)), taker()) == ["the denoiser takes no LoRAs of requests"]
    found = lora_differences(lora(("a.to_q", 8, 16), ("a.ff", 8, 8)), taker(("a.to_q", 8, 32)))
    assert found == [
        "a.to_q: 8 to 16 channels, the denoiser has 8 to 32",
        "a.ff: the denoiser takes no LoRA there",
    ]

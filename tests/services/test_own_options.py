"""Options that a stage's deployment has of its own, against Ray's own account of an actor's environment."""

import pytest
import ray

from services.errors import StartError
from services.own_options import chosen, own_fields, with_own_options
from services.stage_args import DenoiserArgs, StageArgs, TextEncoderArgs


def test_what_its_own_environment_says_goes_before_what_the_graph_was_built_with() -> None:
    variables = {
        "LATENTWORKS_DENOISER__RUN_ROWS": "16",
        "LATENTWORKS_DENOISER__PROVIDER": "cpu",
        "LATENTWORKS_VAE_DECODER__THREADS": "9",
        "PATH": "/bin",
    }
    args = chosen(DenoiserArgs(threads=2, queued_pictures=7), "denoiser", variables)
    assert args == DenoiserArgs(threads=2, queued_pictures=7, run_rows=16, provider="cpu")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("RUN_ROWS", "1", "LATENTWORKS_DENOISER__RUN_ROWS='1': Input should be greater than or equal to 2"),
        ("RUN_ROWS", "many", "LATENTWORKS_DENOISER__RUN_ROWS='many': Input should be a valid integer"),
        ("RUN_ROW", "4", "LATENTWORKS_DENOISER__RUN_ROW: no option of a replica of denoiser; those are"),
        # Serve alone knows of these, by the deployment's entry
        ("REPLICAS", "4", "LATENTWORKS_DENOISER__REPLICAS: no option of a replica of denoiser; those are"),
    ],
)
def test_a_wrong_one_ends_the_start_with_a_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(StartError) as caught:
        chosen(DenoiserArgs(), "denoiser", {f"LATENTWORKS_DENOISER__{name}": value})
    assert caught.value.message.startswith(sentence)


def test_a_part_whose_name_begins_like_another_is_no_part_of_it() -> None:
    assert chosen(StageArgs(), "vae", {"LATENTWORKS_VAE_DECODER__THREADS": "9"}) == StageArgs()


def test_every_option_of_a_stage_that_serve_is_not_told_is_one() -> None:
    common = ("max_ongoing_requests", "threads", "most_versions", "most_version_bytes", "provider")
    assert own_fields(StageArgs) == common
    assert own_fields(TextEncoderArgs) == (*common, "cache_bytes")
    assert own_fields(DenoiserArgs) == (
        *common,
        "run_rows",
        "run_pixels",
        "queued_pictures",
        "most_controlnets",
        "most_controlnet_bytes",
        "most_loras",
        "most_lora_bytes",
    )


def test_without_ray_there_are_none() -> None:
    assert not ray.is_initialized()
    assert with_own_options(StageArgs(), "vae_decoder") == StageArgs()

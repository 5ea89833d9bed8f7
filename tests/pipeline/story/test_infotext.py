"""The infotext that we write, in A1111's own words."""

import pytest

from diffusion.samplers import SAMPLERS
from pipeline.story.infotext import infotext, sampler_label, schedule_label
from pipeline.story.record import Story
from tests.pipeline.story.stories import PINS, story

# the labels of A1111 v1.10's menus, of the samplers that are there and here
LABELS = {
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "euler_ancestral": "Euler a",
    "euler": "Euler",
    "lms": "LMS",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2_ancestral": "DPM2 a",
    "ddim": "DDIM",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "lcm": "LCM",
}
SCHEDULES = {
    "default": "Automatic",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "align_your_steps": "Align Your Steps",
    "simple": "Simple",
    "beta": "Beta",
}


def parameters(told: Story) -> dict[str, str]:
    line = infotext(told).split("\n")[-1]
    return dict(part.split(": ", 1) for part in line.split(", "))


def test_it_is_written_as_a1111_does() -> None:
    told = story(
        prompt="a boat",
        negative_prompt="blurry, dark",
        steps=20,
        guidance=7.0,
        sampler="dpmpp_2m",
        schedule="karras",
        seed=965400086,
        width=512,
        height=768,
    )
    assert infotext(told) == (
        "a boat\nNegative prompt: blurry, dark\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, "
        "Seed: 965400086, Size: 512x768, Model hash: 4444444444, Model: toy, VAE hash: 5555555555, "
        "VAE: toy.vae_decoder/5, RNG: CPU, Version: latentworks 2"
    )


def test_what_asks_for_nothing_is_left_out() -> None:
    assert infotext(story(prompt="a")).startswith("a\nSteps: 3, ")
    plain = parameters(story()).keys()
    assert {"Variation seed", "Denoising strength", "Eta", "Guidance end", "Guidance rescale"}.isdisjoint(plain)
    said = parameters(
        story(
            sampler="tcd",
            eta=0.5,
            rng="philox",
            subseed=7,
            subseed_strength=0.25,
            guidance_end=0.5,
            guidance_rescale=0.7,
            strength=0.6,
        )
    )
    assert (said["Variation seed"], said["Variation seed strength"], said["RNG"]) == ("7", "0.25", "NV")
    assert (said["Eta"], said["Guidance end"], said["Guidance rescale"]) == ("0.5", "0.5", "0.7")
    assert said["Denoising strength"] == "0.6"
    assert parameters(story(sampler="ddim", eta=0.5))["Eta DDIM"] == "0.5"
    assert "Eta" not in parameters(story(sampler="tcd", eta=SAMPLERS["tcd"].eta))


def test_no_text_is_written_where_none_is_told() -> None:
    assert infotext(story(prompt="a secret", negative_prompt="another").without_texts()).startswith("Steps: 3, ")


def test_a_value_that_would_end_the_line_is_quoted() -> None:
    told = Story(settings={"steps": 1, "seed": 0}, components=PINS, model='a, "b": c\nd')
    assert 'Model: "a, \\"b\\": c\\nd", ' in infotext(told)
    assert infotext(Story(settings={})) == "Version: latentworks 2"


@pytest.mark.parametrize(("ours", "label"), LABELS.items())
def test_samplers_have_a1111s_names(ours: str, label: str) -> None:
    assert sampler_label(ours) == label


def test_no_sampler_has_the_name_of_another() -> None:
    labels = [sampler_label(name) for name in SAMPLERS]
    assert len(set(labels)) == len(labels)
    assert sampler_label("flow_euler") == "flow_euler", "A1111 has none"
    assert sampler_label("a newer one") == "a newer one"


@pytest.mark.parametrize(("ours", "label"), SCHEDULES.items())
def test_schedules_have_a1111s_names(ours: str, label: str) -> None:
    assert schedule_label(ours) == label

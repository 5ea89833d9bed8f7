"""Infotexts as they are found: A1111's of several years, other programs', our own, and any text at all."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.messages import Hires
from diffusion.samplers import SAMPLERS
from pipeline.prompts.weighting import WEIGHTINGS
from pipeline.skipping import SKIPPING
from pipeline.story.infotext import infotext
from pipeline.story.infotext_reader import read_infotext
from pipeline.story.record import Story, Told
from tests.pipeline.story.stories import HARD, story

# what may be several, of which an infotext tells nothing
LISTS = {"boxes", "controls", "loras"}


def read(text: str) -> Told:
    told = read_infotext(text)
    assert told is not None
    return told


def told_by(text: str) -> dict[str, Any]:
    """What is told at all."""
    return {name: value for name, value in read(text).story.settings.items() if value is not None}


def test_the_form_of_2022() -> None:
    text = (
        "portrait of an owl, (detailed:1.2)\nNegative prompt: blurry, [text]\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 965400086, Size: 512x704, Model hash: 45dee52b, "
        "Batch size: 4, Batch pos: 2"
    )
    assert told_by(text) == {
        "prompt": "portrait of an owl, (detailed:1.2)",
        "negative_prompt": "blurry, [text]",
        "steps": 20,
        "sampler": "euler_ancestral",
        "schedule": "default",
        "guidance": 7.5,
        "seed": 965400086,
        "width": 512,
        "height": 704,
        "rng": "philox",
        "weighting": "a1111",
    }
    assert read(text).unknown == ()


def test_the_form_of_2023_with_the_schedule_in_the_samplers_name() -> None:
    text = (
        "a castle\non a hill\nNegative prompt: low quality\nworst quality\n"
        "Steps: 30, Sampler: DPM++ 2M SDE Karras, CFG scale: 5, Seed: 1, Size: 768x512, Model hash: cc6cb27103, "
        "Model: v1-5-pruned-emaonly, Clip skip: 2, Variation seed: 77, Variation seed strength: 0.2, ENSD: 31337, "
        'Lora hashes: "one: 123abc, two: 456def", Version: v1.6.0'
    )
    said, unknown = told_by(text), read(text).unknown
    assert (said["prompt"], said["negative_prompt"]) == ("a castle\non a hill", "low quality\nworst quality")
    assert (said["sampler"], said["schedule"]) == ("dpmpp_2m_sde", "karras")
    assert (said["subseed"], said["subseed_strength"]) == (77, 0.2)
    assert said["clip_skip"] == 2
    assert unknown == ("ensd: 31337", "lora hashes: one: 123abc, two: 456def")
    assert read(text).story.model == "v1-5-pruned-emaonly"


def test_the_form_of_2024_with_hires() -> None:
    text = (
        "a fox\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 512x512, "
        "Model: sd, VAE hash: 735e4c3a44, VAE: vae.safetensors, Denoising strength: 0.5, RNG: CPU, Hires upscale: 2, "
        "Hires upscaler: Latent, Version: v1.9.4"
    )
    said = told_by(text)
    assert (said["sampler"], said["schedule"], said["rng"], said["negative_prompt"]) == (
        "dpmpp_2m",
        "karras",
        "torch",
        "",
    )
    # A1111 walks all of the steps again, so of twice as many the last half
    hires = Hires(first_width=512, first_height=512, upscaler="latent_bilinear", strength=0.5, steps=40)
    assert (said["hires"], said["width"], said["height"], said["strength"]) == (hires, 1024, 1024, 1.0)
    assert read(text).unknown == ()
    assert told_by("a\nSteps: 20, Seed: 1, Denoising strength: 0.5")["strength"] == 0.5


def test_civitais_lists_and_comfyuis_names() -> None:
    text = (
        "a bird\nNegative prompt: \nSteps: 25, Sampler: dpmpp_2m_sgm_uniform, CFG scale: 7.0, Seed: 42, Size: 8x8, "
        'Clip skip: 1, Created Date: 2024-05-01T10:00:00Z, Civitai resources: [{"type":"checkpoint","name":"a, b"}], '
        "Civitai metadata: {}"
    )
    said = told_by(text)
    assert (said["sampler"], said["schedule"], said["steps"], said["guidance"]) == ("dpmpp_2m", "sgm_uniform", 25, 7.0)
    assert read(text).unknown == (
        "created date: 2024-05-01T10:00:00Z",
        'civitai resources: [{"type":"checkpoint","name":"a, b"}]',
        "civitai metadata: {}",
    )
    assert told_by("a\nSteps: 1, Sampler: euler_ancestral_normal")["sampler"] == "euler_ancestral"


def test_lines_that_others_write_below() -> None:
    text = "a\nSteps: 3, Seed: 1\nTemplate: {a|b}, c: d, e: f, g: h\r\n\r\nWildcard: x"
    assert told_by(text)["seed"] == 1
    assert read(text).unknown == ("Template: {a|b}, c: d, e: f, g: h", "Wildcard: x")


def test_what_is_missing_or_in_another_order() -> None:
    assert told_by("Steps: 3")["steps"] == 3
    assert told_by("a\nSeed: 1, cfg SCALE: 2, Size: 8x16") == {
        "prompt": "a",
        "negative_prompt": "",
        "seed": 1,
        "guidance": 2.0,
        "width": 8,
        "height": 16,
        "rng": "philox",
        "weighting": "a1111",
    }
    assert told_by("a\nNegative prompt: b") == {"prompt": "a", "negative_prompt": "b", "weighting": "a1111"}
    assert told_by("a\nSteps: 1, Steps: 2")["steps"] == 2, "as A1111 has it"


@pytest.mark.parametrize(
    "part",
    [
        "Steps: 0",
        "Steps: 2.5",
        "Steps: " + "9" * 5000,
        "Seed: -1",
        "Seed: 9223372036854775808",
        "CFG scale: nan",
        "CFG scale: 1e999",
        "CFG scale: seven",
        "CFG scale: -1",
        "Sampler: DPM adaptive",
        "Schedule type: Turbo",
        "Size: 512",
        "Size: 0x8",
        "RNG: std_default",
        "Variation seed strength: 2",
        "Clip skip: 0",
        "Emphasis: No norm",
    ],
)
def test_a_value_that_cannot_be_used_is_listed(part: str) -> None:
    name, _, value = part.partition(": ")
    told = read(f"a\nSteps: 7, {part}, Eta: 0")
    [unknown] = told.unknown
    assert unknown.startswith(f"{name.lower()}: {value}"[:197])
    assert len(unknown) <= 200
    assert told.story.settings["prompt"] == "a"


def test_values_that_say_nothing_together() -> None:
    assert read("a\nSteps: 1, Sampler: Euler a, Eta: 0.67").unknown == ("eta: 0.67",)
    assert read("a\nSteps: 1, Sampler: DDIM, Eta DDIM: 0.67").story.settings["eta"] == 0.67
    told = read("a\nSteps: 1, Sampler: DDIM, Schedule type: Karras")
    assert (told.story.settings["sampler"], told.story.settings["schedule"]) == ("ddim", None)
    assert told.unknown == ("schedule type: karras",)
    assert read("a\nSteps: 1, Variation seed strength: 0.5").unknown == ("variation seed strength: 0.5",)
    assert read("a\nSteps: 1, Variation seed strength: 0, Variation seed: 3").story.settings["subseed"] is None
    automatic = read("a\nSteps: 1, Sampler: DPM++ 2M Karras, Schedule type: Automatic").story.settings
    assert automatic["schedule"] == "karras"


@pytest.mark.parametrize("prompt", ["a boat", "a (boat:1.2)", "a boat BREAK", "a \\\\ boat"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_how_a_prompt_weighs_comes_back(prompt: str, weighting: str) -> None:
    said = infotext(story(prompt=prompt, weighting=weighting, clip_skip=3))
    assert told_by(said)["weighting"] == weighting
    assert told_by(said)["clip_skip"] == 3
    assert ("Emphasis" in said) == (weighting != "none" or prompt != "a boat"), "A1111 would weigh signs"


def test_what_says_nothing_of_emphasis_is_weighed_as_a1111_does() -> None:
    assert told_by("a\nSteps: 1, Version: v1.10.1")["weighting"] == "a1111"
    assert told_by("a\nSteps: 1, Version: latentworks 2")["weighting"] == "none", "of before there was a choice"
    assert told_by("a\nSteps: 1, Emphasis: None")["weighting"] == "none"
    assert told_by("a\nSteps: 1, Emphasis: Original")["weighting"] == "a1111"
    assert "weighting" not in told_by("a\nSteps: 1, Emphasis: Ignore")


def test_a_piece_without_a_name_is_listed() -> None:
    assert read('a\nSteps: 1, what is this, Seed: 2, "b", :').unknown == ("what is this", '"b"', ":")
    many = read("a\n" + ", ".join(["Steps: 1", *(f"k{n}: {n}" for n in range(1000))]))
    assert len(many.unknown) == 256
    assert many.unknown[0].startswith("k255: 255, k256: 256, "), "the rest is one"


@pytest.mark.parametrize("text", ["", "\n", "a picture", "Screenshot", '{"nodes": [1, 2]}', "a: b, c: d", "\0" * 9])
def test_a_text_that_is_no_infotext(text: str) -> None:
    assert read_infotext(text) is None


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_our_own_comes_back(sampler: str) -> None:
    row = SAMPLERS[sampler]
    for schedule in row.sigma_schedules:
        told = story(
            prompt="a, b: c\nd",
            negative_prompt="e",
            sampler=sampler,
            schedule=schedule,
            eta=0.25 if row.takes_eta else row.eta,
            guidance=7.25,
            rng="torch",
            seed=2**63 - 1,
            subseed=6,
            subseed_strength=0.3,
            guidance_start=0.1,
            adaptive_guidance=0.99,
        )
        found = read(infotext(told))
        assert found.unknown == ()
        assert found.story.model == "toy"
        said = {name: value for name, value in found.story.settings.items() if value is not None}
        assert said == {name: told.settings[name] for name in said}
        missing = {name for name, value in told.settings.items() if value is not None} - said.keys()
        mute = {"prompt_chunks", "clip_skip", "guidance_rescale", "guidance_end", "strength", "eta", "mask_blur"}
        assert missing <= {*mute, *LISTS, *SKIPPING}


PIECES = st.sampled_from(
    [
        *("Steps: ", "Negative prompt:", "\n", ", ", ": ", '"', "[", "{", "\\", "Seed: ", "Sampler: ", "Euler a"),
        *("Size: ", "7", "8x8", "-", "\r\n", "\ud800", "\0", "é", "\N{RED APPLE}", "a", " ", "_", "Hires x: 1"),
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join))
@example("\n".join(HARD))
@example('Steps: "\\ud800", Model: "\\ud800"')
def test_no_text_fails(text: str) -> None:
    told = read_infotext(text)
    assert told is None or isinstance(told.story, Story)
    if told is not None:
        texts = [value for value in told.story.settings.values() if isinstance(value, str)]
        "".join([*texts, *told.unknown, told.story.model or ""]).encode()


@pytest.mark.parametrize(
    "piece",
    [
        *("a", " ", "\n", ",", '"', "a: [", 'a: "', 'a: ["', "[", "{", "a b-", "1", ": ", "\\", "Steps: ", "Steps:\n"),
        *("_", "\t\n", "Negative prompt:", "Sampler: _, ", "\r\n", 'a: {"b":'),
    ],
)
@pytest.mark.parametrize("before", ["", "Steps: 1, ", "Steps: 1, a: ", "Steps: 1, Sampler: "])
def test_long_texts_of_one_piece_end(before: str, piece: str) -> None:
    """Were the time not in proportion to the text, a mebibyte would take hours."""
    told = read_infotext(before + piece * (2**20 // len(piece)))
    assert told is None or len(told.unknown) <= 400

import pickle
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from components.contract import Conditioning, FlowSchedule, Kind, TensorSpec
from components.errors import ComponentError
from components.messages import Tiling
from pipeline.errors import RequestError
from pipeline.request import RequestFields, RequestRules, check_request, least_fields
from tests.pipeline.conftest import CONTRACTS, SCHEDULE

DENOISER = CONTRACTS[Kind.DENOISER]
RULES = RequestRules(max_pixels=64 * 64)
FIELDS = RequestFields(prompt="a boat")


def test_defaults_are_the_rules_and_the_bundles() -> None:
    request = check_request(FIELDS, DENOISER, RULES)
    assert (request.steps, request.guidance, request.sampler, request.n) == (25, 5.0, "ddim", 1)
    assert (request.width, request.height) == (16, 16)
    assert 0 <= request.seed < 2**32
    assert (request.rng, request.subseed, request.subseed_strength) == ("torch", None, 0.0)
    assert (request.guidance_rescale, request.guidance_start, request.guidance_end) == (0.0, 0.0, 1.0)
    assert (request.adaptive_guidance, request.eta) == (None, 0.0)


def test_the_share_of_noise_is_the_samplers_own_unless_given() -> None:
    assert check_request(replace(FIELDS, sampler="tcd"), DENOISER, RULES).eta == 0.3
    assert check_request(replace(FIELDS, sampler="tcd", eta=0), DENOISER, RULES).eta == 0.0
    assert check_request(replace(FIELDS, sampler="DDIMScheduler", eta=1), DENOISER, RULES).eta == 1.0


def test_a_seed_is_drawn_afresh_and_zero_is_a_seed() -> None:
    seeds = {check_request(FIELDS, DENOISER, RULES).seed for _ in range(8)}
    assert len(seeds) == 8
    assert check_request(replace(FIELDS, seed=0), DENOISER, RULES).seed == 0
    varied = replace(FIELDS, subseed_strength=0.5)
    assert len({check_request(varied, DENOISER, RULES).subseed for _ in range(8)}) == 8
    assert check_request(replace(varied, subseed=0), DENOISER, RULES).subseed == 0


@pytest.mark.parametrize(
    ("given", "walk"),
    [
        ({}, ("ddim", "default")),
        ({"sampler": "DPM++ 2M Karras"}, ("dpmpp_2m", "karras")),
        ({"sampler": "DPM++ 2M Karras", "schedule": "Karras"}, ("dpmpp_2m", "karras")),
        ({"sampler": "Euler a"}, ("euler_ancestral", "default")),
        ({"sampler": "UniPCMultistepScheduler", "schedule": "SGM Uniform"}, ("unipc", "sgm_uniform")),
        ({"sampler": "dpm_2_ancestral"}, ("dpm2_ancestral", "default")),
    ],
)
def test_samplers_answer_to_the_names_that_others_gave_them(given: dict[str, Any], walk: tuple[str, str]) -> None:
    request = check_request(replace(FIELDS, **given), DENOISER, RULES)
    assert (request.sampler, request.schedule) == walk


def test_a_subseed_of_no_strength_is_none() -> None:
    request = check_request(replace(FIELDS, subseed=3, subseed_strength=0, n=2), DENOISER, RULES)
    assert (request.subseed, request.subseed_strength) == (None, 0.0)


@pytest.mark.parametrize(
    "inside",
    [
        {"steps": 1},
        {"steps": 150},
        {"guidance": 0},
        {"guidance": 1.0},
        {"guidance": 50},
        {"seed": 2**63 - 1},
        {"seed": 2**63 - 10, "n": 10},
        {"width": 64, "height": 64},
        {"width": 128, "height": 32},
        {"prompt": "x" * 4000},
        {"prompt": "\N{RED APPLE} \u202eright to left\u200b"},
        {"negative_prompt": ""},
        {"sampler": "euler"},
        {"sampler": "dpmpp_2m", "schedule": "karras"},
        {"guidance_rescale": 0},
        {"guidance_rescale": 1},
        {"guidance_start": 0},
        {"guidance_start": 0.999},
        {"guidance_end": 1},
        {"guidance_end": 0.001},
        {"guidance_start": 0.25, "guidance_end": 0.5},
        {"adaptive_guidance": 1},
        {"adaptive_guidance": 1e-6},
        {"adaptive_guidance": None},
        {"eta": 0},
        {"eta": 1},
        {"sampler": "tcd", "eta": 1},
        {"sampler": "euler", "eta": 0},
        {"rng": "philox"},
        {"subseed": 2**63 - 10, "subseed_strength": 1, "n": 10},
        {"subseed": 0, "subseed_strength": 1e-6},
        {"strength": 1, "image": (64, 64)},
        {"strength": 0.04, "image": (64, 64), "mask": True},
        {"strength": 0.1, "steps": 10, "image": (64, 64)},
    ],
)
def test_the_limits_themselves_are_inside(inside: dict[str, Any]) -> None:
    request = check_request(replace(FIELDS, **inside), DENOISER, RULES)
    given = {name: value for name, value in inside.items() if name not in ("image", "mask")}
    assert {name: getattr(request, name) for name in given} == given


@pytest.mark.parametrize(
    ("outside", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "has 0 characters, must have 1 to 4000"),
        ({"prompt": "x" * 10**6}, "prompt", "has 1000000 characters, must have 1 to 4000"),
        ({"prompt": "caf\ud8e9"}, "prompt", "not valid Unicode at character 3"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"prompt": b"a boat"}, "prompt", "is bytes, must be text"),
        ({"negative_prompt": "x" * 4001}, "negative_prompt", "has 4001 characters, must have 0 to 4000"),
        ({"steps": 0}, "steps", "steps=0: must be a whole number between 1 and 150"),
        ({"steps": 151}, "steps", "steps=151"),
        ({"steps": 2.5}, "steps", "steps=2.5"),
        ({"steps": True}, "steps", "steps=True"),
        ({"steps": 10**5000}, "steps", "a number of 16610 bits"),
        ({"guidance": float("nan")}, "guidance", "guidance=nan: must be a number between 0 and 50"),
        ({"guidance": float("inf")}, "guidance", "guidance=inf"),
        ({"guidance": -0.1}, "guidance", "guidance=-0.1"),
        ({"guidance": 10**400}, "guidance", "a number of 1329 bits"),
        ({"guidance": "7"}, "guidance", "guidance='7'"),
        ({"seed": -1}, "seed", "seed=-1"),
        ({"seed": 2**63}, "seed", f"between 0 and {2**63 - 1}"),
        ({"seed": 2**63 - 9, "n": 10}, "seed", f"between 0 and {2**63 - 10}"),
        ({"schedule": "magic"}, "schedule", "schedule='magic': must be one of align_your_steps"),
        ({"schedule": 1}, "schedule", "schedule=1: must be one of"),
        ({"sampler": "DPM++ 2M Karras", "schedule": "beta"}, "schedule", "left out or karras"),
        ({"sampler": "flow_euler"}, "sampler", "this checkpoint is no flow-matching one"),
        ({"rng": "magic"}, "rng", "rng='magic': must be one of philox, torch"),
        ({"rng": 1}, "rng", "rng=1"),
        ({"subseed": -1}, "subseed", "subseed=-1"),
        ({"subseed": 2**63 - 9, "n": 10, "subseed_strength": 0.5}, "subseed", f"between 0 and {2**63 - 10}"),
        ({"subseed": 1.5}, "subseed", "subseed=1.5"),
        ({"subseed_strength": 1.1}, "subseed_strength", "subseed_strength=1.1: must be a number between 0 and 1"),
        ({"subseed_strength": -1}, "subseed_strength", "subseed_strength=-1"),
        ({"subseed_strength": float("nan")}, "subseed_strength", "subseed_strength=nan"),
        ({"subseed_strength": "1"}, "subseed_strength", "subseed_strength='1'"),
        ({"guidance_rescale": -0.1}, "guidance_rescale", "guidance_rescale=-0.1: must be a number between 0 and 1"),
        ({"guidance_rescale": 1.1}, "guidance_rescale", "guidance_rescale=1.1"),
        ({"guidance_start": -0.1}, "guidance_start", "guidance_start=-0.1"),
        ({"guidance_start": 1}, "guidance_start", "guidance_start=1: must be less than guidance_end, 1"),
        ({"guidance_start": 0.5, "guidance_end": 0.5}, "guidance_start", "less than guidance_end, 0.5"),
        ({"guidance_start": 0.6, "guidance_end": 0.5}, "guidance_start", "less than guidance_end, 0.5"),
        ({"guidance_end": 1.1}, "guidance_end", "guidance_end=1.1"),
        ({"adaptive_guidance": 0}, "adaptive_guidance", "over 0 and at most 1"),
        ({"adaptive_guidance": -0.1}, "adaptive_guidance", "adaptive_guidance=-0.1"),
        ({"guidance_end": 0}, "guidance_end", "guidance_end=0: must be more than guidance_start, 0"),
        ({"adaptive_guidance": 1.1}, "adaptive_guidance", "adaptive_guidance=1.1"),
        ({"eta": -0.1}, "eta", "eta=-0.1"),
        ({"eta": 1.1}, "eta", "eta=1.1: must be a number between 0 and 1"),
        ({"sampler": "euler", "eta": 0.5}, "eta", "eta=0.5: must be 0 or left out for euler"),
        ({"sampler": "Euler a", "eta": 1}, "eta", "eta=1: must be 0 or left out for euler_ancestral"),
        ({"strength": 0.5}, "strength", "strength=0.5: must be left out without an image"),
        ({"strength": 1.1, "image": (64, 64)}, "strength", "strength=1.1: must be a number between 0 and 1"),
        ({"strength": 0, "image": (64, 64)}, "strength", "strength=0.0: must be at least 1/25 for 25 steps"),
        ({"strength": 0.09, "steps": 11, "image": (64, 64)}, "strength", "strength=0.09: must be at least 1/11 for 11"),
        ({"mask": True}, "mask", "mask: must be left out without an image"),
        ({"depth": True}, "depth", "depth: must be left out, as this model sees none"),
        ({"n": 0}, "n", "n=0: must be a whole number between 1 and 10"),
        ({"n": 11}, "n", "n=11"),
        ({"width": 17}, "width", "width=17: must be a multiple of 2"),
        ({"height": 0}, "height", "height=0"),
        ({"height": -16}, "height", "height=-16"),
        ({"width": 10**9}, "width", "width=1000000000"),
        ({"width": 66, "height": 64}, "size", "size=66x64: must have at most 4096 pixels, not 4224"),
        ({"sampler": "magic"}, "sampler", "sampler='magic': must be one of ddim, ddpm, deis"),
        ({"sampler": "x" * 10**6}, "sampler", "x'...: must be one of"),
        ({"sampler": ["ddim"]}, "sampler", "must be one of"),
    ],
)
def test_what_lies_outside_is_refused_by_field_limit_and_value(outside: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_request(replace(FIELDS, **outside), DENOISER, RULES)
    assert caught.value.field == field
    assert words in caught.value.message
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["guidance_rescale", "guidance_start", "guidance_end", "adaptive_guidance", "eta"])
@pytest.mark.parametrize("given", [float("nan"), float("inf"), -float("inf"), True, "0.5", [0.5], 10**400])
def test_a_share_is_a_number_between_0_and_1(field: str, given: Any) -> None:
    with pytest.raises(RequestError, match=f"^{field}=.*: must be a number between 0 and 1$") as caught:
        check_request(replace(FIELDS, **{field: given}), DENOISER, RULES)
    assert caught.value.field == field
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("given", [float("nan"), -0.1, True, "0.5", 10**400])
def test_strength_is_such_a_share(given: Any) -> None:
    with pytest.raises(RequestError, match=r"^strength=.*: must be a number between 0 and 1$"):
        check_request(replace(FIELDS, image=(64, 64), strength=given), DENOISER, RULES)


def test_strength_is_by_default_the_rules_and_one_where_nothing_or_a_mask_starts_the_walk() -> None:
    for fields, strength in (
        (FIELDS, 1.0),
        (replace(FIELDS, image=(64, 64)), 0.8),
        (replace(FIELDS, image=(64, 64), mask=True), 1.0),
    ):
        assert check_request(fields, DENOISER, RULES).strength == strength
    gentle = RequestRules(default_strength=0.25)
    assert check_request(replace(FIELDS, image=(64, 64)), DENOISER, gentle).strength == 0.25
    assert check_request(FIELDS, DENOISER, gentle).strength == 1.0


def test_steps_are_bound_by_the_training_timesteps_too() -> None:
    few = DENOISER.model_copy(update={"noise_schedule": SCHEDULE.model_copy(update={"num_train_timesteps": 20})})
    assert check_request(FIELDS, few, RULES).steps == 20
    with pytest.raises(RequestError, match="between 1 and 20"):
        check_request(replace(FIELDS, steps=21), few, RULES)


def test_a_walk_that_the_schedule_has_not_is_refused() -> None:
    shifted = SCHEDULE.model_copy(update={"timestep_spacing": "leading", "steps_offset": 20})
    contract = DENOISER.model_copy(update={"noise_schedule": shifted})
    assert check_request(replace(FIELDS, steps=10), contract, RULES).steps == 10
    with pytest.raises(RequestError, match="steps_offset"):
        check_request(replace(FIELDS, steps=100), contract, RULES)


def test_only_a_denoisers_contract_will_do() -> None:
    with pytest.raises(ComponentError, match="vae_decoder"):
        check_request(FIELDS, CONTRACTS[Kind.VAE_DECODER], RULES)


def test_the_prompt_is_in_no_message() -> None:
    for prompt in ("canary" * 1000, "canary\0", "canary\ud800"):
        with pytest.raises(RequestError) as caught:
            check_request(replace(FIELDS, prompt=prompt), DENOISER, RULES)
        assert "canary" not in str(caught.value)


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RequestError("steps", "steps=0: too few")))
    assert (error.field, error.message, str(error)) == ("steps", "steps=0: too few", "steps=0: too few")


@pytest.mark.parametrize(
    "rules",
    [
        {"default_steps": 200},
        {"default_guidance": 51},
        {"default_sampler": "magic"},
        {"max_pixels": 0},
        {"max_guidance": float("inf")},
        {"tile_side": 100},
        {"tile_side": 512, "max_whole_pixels": 512 * 512 - 1},
        {"tile_overlap": 0.51},
        {"most_steps": 3},
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(rules))):
        RequestRules(**rules)


def test_the_default_guidance_is_the_deployments_then_the_bundles() -> None:
    own = DENOISER.model_copy(update={"guidance": 2.0})
    assert check_request(FIELDS, own, RULES).guidance == 2.0
    assert check_request(replace(FIELDS, guidance=0), own, RULES).guidance == 0
    assert check_request(FIELDS, own, RULES.model_copy(update={"default_guidance": 3.0})).guidance == 3.0
    assert check_request(FIELDS, own, RULES.model_copy(update={"max_guidance": 1.5})).guidance == 1.5


def test_a_side_must_suit_the_levels_of_the_network() -> None:
    deep = DENOISER.model_copy(update={"latent_multiple": 4})
    assert check_request(replace(FIELDS, width=24), deep, RULES).width == 24
    with pytest.raises(RequestError, match="width=18: must be a multiple of 8"):
        check_request(replace(FIELDS, width=18), deep, RULES)


def test_a_flow_bundle_has_a_default_sampler_of_its_family() -> None:
    flow = DENOISER.model_copy(update={"noise_schedule": None, "flow_schedule": FlowSchedule(num_train_timesteps=1000)})
    assert check_request(FIELDS, flow, RULES).sampler == "flow_euler"
    assert check_request(FIELDS, flow, RULES.model_copy(update={"default_sampler": "flow_heun"})).sampler == "flow_heun"
    assert check_request(FIELDS, DENOISER, RULES.model_copy(update={"default_sampler": "flow_heun"})).sampler == "ddim"
    with pytest.raises(RequestError, match="flow_euler or flow_heun"):
        check_request(replace(FIELDS, sampler="euler"), flow, RULES)


def test_a_prompt_takes_as_many_chunks_as_the_rules_and_the_network_allow() -> None:
    assert check_request(FIELDS, DENOISER, RULES).prompt_chunks == 1
    rules = RULES.model_copy(update={"max_prompt_chunks": 3})
    assert check_request(FIELDS, DENOISER, rules).prompt_chunks == 3
    widths = {array.name for array in DENOISER.conditioning}
    inputs = tuple(
        spec.model_copy(update={"shape": ("batch", 8, spec.shape[2])}) if spec.name in widths else spec
        for spec in DENOISER.inputs
    )
    assert check_request(FIELDS, DENOISER.model_copy(update={"inputs": inputs}), rules).prompt_chunks == 1


def test_the_vae_takes_a_picture_in_tiles_where_it_is_larger_than_the_rules_say() -> None:
    rules = RequestRules(max_pixels=2**20, max_whole_pixels=128 * 96, tile_side=64, tile_overlap=0.125)
    assert check_request(replace(FIELDS, width=96, height=128), DENOISER, rules).tiling is None
    one = check_request(replace(FIELDS, width=98, height=128), DENOISER, rules)
    assert one.tiling == Tiling(side=64, overlap=0.125)
    assert check_request(replace(FIELDS, width=1024, height=1024), DENOISER, RequestRules()).tiling is None


def test_the_most_pixels_are_those_of_four_pictures_of_the_bundles_own_size_unless_told() -> None:
    # the bundle's own are 16 by 16
    assert RequestRules().most_pixels(DENOISER) == 1024 * 1024
    assert RULES.most_pixels(DENOISER) == 64 * 64
    large = DENOISER.model_copy(update={"latent_size": (512, 384)})
    assert RequestRules().most_pixels(large) == 4 * 1024 * 768
    fields = replace(FIELDS, width=2048, height=1536)
    assert check_request(fields, large, RequestRules()).tiling == Tiling(side=512, overlap=0.25)
    with pytest.raises(RequestError, match="size=2048x1538: must have at most 3145728 pixels"):
        check_request(replace(fields, height=1538), large, RequestRules())


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    ("weighting", "text", "why"), [("a1111", "(a secret:2000)", "weight"), ("compel", "a.and(secret)", "operator")]
)
def test_a_text_that_cannot_be_weighed_is_refused_by_its_field(field: str, weighting: str, text: str, why: str) -> None:
    changed: dict[str, Any] = {field: text}
    given = replace(FIELDS, **changed)
    for asked, rules in (
        (replace(given, weighting=weighting), RULES),
        (given, RULES.model_copy(update={"default_weighting": weighting})),
    ):
        with pytest.raises(RequestError, match=why) as refused:
            check_request(asked, DENOISER, rules)
        assert refused.value.field == field
        assert "secret" not in str(refused.value)
    assert check_request(given, DENOISER, RULES).weighting == "none"


def test_the_weighting_is_the_servers_unless_named() -> None:
    with pytest.raises(RequestError, match="weighting='b1111': must be one of a1111, compel, none"):
        check_request(replace(FIELDS, weighting="b1111"), DENOISER, RULES)
    with pytest.raises(ValidationError, match="default_weighting"):
        RequestRules(default_weighting="b1111")
    rules = RequestRules(default_weighting="compel")
    assert check_request(FIELDS, DENOISER, rules).weighting == "compel"
    assert check_request(replace(FIELDS, weighting="a1111"), DENOISER, rules).weighting == "a1111"


def test_layers_are_skipped_as_far_as_the_text_encoder_has_outputs() -> None:
    assert check_request(FIELDS, DENOISER, RULES).clip_skip == 1
    assert check_request(replace(FIELDS, clip_skip=2), DENOISER, RULES, most_clip_skip=2).clip_skip == 2
    for clip_skip, most in ((2, 1), (3, 2), (0, 2)):
        with pytest.raises(RequestError, match=f"clip_skip={clip_skip}: must be a whole number between 1 and {most}"):
            check_request(replace(FIELDS, clip_skip=clip_skip), DENOISER, RULES, most)


def test_a_model_that_reads_no_texts_draws_by_pictures_alone() -> None:
    conditioning = (Conditioning(name="image_prompt", width=6, tokens=1),)
    seen = TensorSpec(name="image_prompt", dtype="float32", shape=("batch", "tokens", 6))
    inputs = (*(spec for spec in DENOISER.inputs if spec.name != "hidden_states"), seen)
    contract = DENOISER.model_copy(update={"inputs": inputs, "conditioning": conditioning})
    asked = RequestFields(prompt="", image_prompts=1)
    assert check_request(asked, contract, RULES).image_prompt_scale == 1.0
    assert check_request(least_fields(contract), contract, RULES).prompt == ""
    for changes, field in (
        ({"prompt": "a"}, "prompt"),
        ({"negative_prompt": "a"}, "negative_prompt"),
        ({"image_prompts": 0}, "image_prompts"),
        ({"image_prompt_scale": 0.5}, "image_prompt_scale"),
    ):
        with pytest.raises(RequestError) as refused:
            check_request(replace(asked, **changes), contract, RULES)
        assert refused.value.field == field

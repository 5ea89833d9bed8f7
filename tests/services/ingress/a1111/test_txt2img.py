"""Text to image as A1111's clients ask for it: what becomes of each field, and what is refused by name."""

import json
from typing import Any

import pytest
from PIL import Image

from components.contract import Kind
from services.errors import GivenUpError, OverloadedError
from services.messages import Drawn, Order
from tests.services.ingress.a1111.conftest import opened, refused, request_of, txt2img
from tests.services.ingress.conftest import draw_at_once

Server = Any

# what A1111 1.10 has for every field that a client leaves out
DEFAULTS: dict[str, Any] = {
    "prompt": "a red apple",
    "negative_prompt": "",
    "styles": None,
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "sampler_name": None,
    "sampler_index": "Euler",
    "scheduler": None,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 50,
    "cfg_scale": 7.0,
    "width": 512,
    "height": 512,
    "restore_faces": None,
    "tiling": None,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "eta": None,
    "denoising_strength": None,
    "s_min_uncond": None,
    "s_churn": None,
    "s_tmax": None,
    "s_tmin": None,
    "s_noise": None,
    "override_settings": None,
    "override_settings_restore_afterwards": True,
    "refiner_checkpoint": None,
    "refiner_switch_at": None,
    "disable_extra_networks": False,
    "firstpass_image": None,
    "comments": None,
    "enable_hr": False,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "hr_scale": 2.0,
    "hr_upscaler": None,
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_checkpoint_name": None,
    "hr_sampler_name": None,
    "hr_scheduler": None,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "force_task_id": None,
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
    "infotext": None,
}


def test_fields_are_drawn_by(server: Server, api: Any) -> None:
    result = api.txt2img(
        prompt="a red apple",
        negative_prompt="blue",
        seed=7,
        steps=12,
        cfg_scale=4.5,
        width=128,
        height=64,
        sampler_name="DPM++ 2M",
        scheduler="karras",
    )
    [order] = server.orders
    request = order.request
    assert (request.prompt, request.negative_prompt, request.seed) == ("a red apple", "blue", 7)
    assert (request.steps, request.guidance, request.width, request.height) == (12, 4.5, 128, 64)
    assert (request.sampler, request.schedule, request.n) == ("dpmpp_2m", "karras", 1)
    assert order.source is None
    assert result.image.size == (128, 64)
    # the seed gives the colour
    assert result.image.getpixel((0, 0)) == (7, 7, 7)
    assert result.parameters["cfg_scale"] == 4.5


def test_what_a_client_leaves_out_or_writes_out_is_a1111s_default(server: Server) -> None:
    short = request_of(server)
    whole = request_of(server, **{**DEFAULTS, "seed": short.seed})
    assert (short.steps, short.guidance, short.sampler, short.schedule) == (50, 7.0, "euler", "default")
    # but for the size, which is the bundle's own
    assert (short.width, short.height) == (64, 64)
    assert (whole.width, whole.height) == (512, 512)
    assert (whole.steps, whole.guidance, whole.sampler, whole.schedule, whole.rng, whole.eta) == (
        short.steps,
        short.guidance,
        short.sampler,
        short.schedule,
        short.rng,
        short.eta,
    )


def test_the_info_has_a1111s_keys(api: Any) -> None:
    result = api.txt2img(prompt="a red apple", seed=5, batch_size=2, width=64, height=64, cfg_scale=3)
    info = result.info
    assert info.keys() >= {
        "prompt",
        "all_prompts",
        "negative_prompt",
        "all_negative_prompts",
        "seed",
        "all_seeds",
        "subseed",
        "all_subseeds",
        "subseed_strength",
        "width",
        "height",
        "sampler_name",
        "cfg_scale",
        "steps",
        "batch_size",
        "restore_faces",
        "face_restoration_model",
        "sd_model_name",
        "sd_model_hash",
        "sd_vae_name",
        "sd_vae_hash",
        "seed_resize_from_w",
        "seed_resize_from_h",
        "denoising_strength",
        "extra_generation_params",
        "index_of_first_image",
        "infotexts",
        "styles",
        "job_timestamp",
        "clip_skip",
        "is_using_inpainting_conditioning",
    }
    assert (info["all_seeds"], info["all_prompts"], info["sampler_name"]) == ([5, 6], ["a red apple"] * 2, "Euler")
    assert (info["sd_model_name"], info["sd_vae_name"]) == ("toy", "toy.vae_decoder/1")
    # as Pillow reads them from the files
    assert info["infotexts"] == [one.text["parameters"] for one in result.images]
    assert "Seed: 6, Size: 64x64" in info["infotexts"][1]


def test_batches_come_one_after_the_other_with_the_seeds_of_one_request(server: Server) -> None:
    answer = txt2img(server, seed=10, batch_size=2, n_iter=2).json()
    assert [(order.request.seed, order.request.n) for order in server.orders] == [(10, 2), (12, 2)]
    assert [opened(one).getpixel((0, 0)) for one in answer["images"]] == [(seed,) * 3 for seed in range(10, 14)]
    assert json.loads(answer["info"])["all_seeds"] == [10, 11, 12, 13]


def test_a_subseed_varies_the_picture_of_one_seed(server: Server) -> None:
    answer = txt2img(server, seed=10, subseed=90, subseed_strength=0.25, batch_size=1, n_iter=2).json()
    assert [(o.request.seed, o.request.subseed, o.request.subseed_strength) for o in server.orders] == [
        (10, 90, 0.25),
        (10, 91, 0.25),
    ]
    info = json.loads(answer["info"])
    assert (info["all_seeds"], info["all_subseeds"]) == ([10, 10], [90, 91])


def test_a_seed_of_minus_one_is_drawn_afresh_and_told(server: Server) -> None:
    seeds = {json.loads(txt2img(server, seed=-1).json()["info"])["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert min(seeds) >= 0


@pytest.mark.parametrize(
    ("asked", "sampler", "schedule"),
    [
        ({"sampler_name": "DPM++ 2M Karras"}, "dpmpp_2m", "karras"),
        ({"sampler_name": "dpm++ 2m sde", "scheduler": "Exponential"}, "dpmpp_2m_sde", "exponential"),
        ({"sampler_name": "Euler a", "scheduler": "automatic"}, "euler_ancestral", "default"),
        ({"sampler_index": "DDIM"}, "ddim", "default"),
        ({"sampler_name": "Heun", "sampler_index": "DDIM", "scheduler": "sgm_uniform"}, "heun", "sgm_uniform"),
        ({"sampler_name": "", "sampler_index": "LMS"}, "lms", "default"),
    ],
)
def test_samplers_and_schedules_go_by_a1111s_names(
    server: Server, asked: dict[str, Any], sampler: str, schedule: str
) -> None:
    request = request_of(server, **asked)
    assert (request.sampler, request.schedule) == (sampler, schedule)


@pytest.mark.parametrize(
    ("sampler", "eta", "drawn"),
    [("DDIM", 0.5, 0.5), ("DDIM", 1.0, 1.0), ("Euler a", 1.0, 0.0), ("Euler", 1.0, 0.0), ("Euler", 0, 0.0)],
)
def test_eta_is_ddims_and_one_is_any_others_own(server: Server, sampler: str, eta: float, drawn: float) -> None:
    assert request_of(server, sampler_name=sampler, eta=eta).eta == drawn


@pytest.mark.parametrize(("sampler", "eta"), [("Euler a", 0), ("Euler a", 0.5), ("Euler", 0.5), ("DDIM", 2)])
def test_an_eta_that_a_sampler_cannot_honour_is_refused(server: Server, sampler: str, eta: float) -> None:
    assert refused(txt2img(server, sampler_name=sampler, eta=eta), 422)["detail"].startswith("eta=")


def test_pictures_that_nobody_wants_are_not_sent(server: Server) -> None:
    answer = txt2img(server, seed=3, send_images=False).json()
    assert answer["images"] == []
    assert json.loads(answer["info"])["all_seeds"] == [3]
    assert len(server.orders) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable_hr", "yes"),
        ("firstphase_width", 64),
        ("restore_faces", True),
        ("tiling", True),
        ("save_images", True),
        ("styles", ["mine"]),
        ("s_churn", 0.5),
        ("s_tmin", 0.1),
        ("s_tmax", 9),
        ("s_noise", 1.1),
        ("s_min_uncond", 0.2),
        ("seed_resize_from_w", 256),
        ("seed_resize_from_h", 256),
        ("refiner_checkpoint", "sdxl"),
        ("script_name", "x/y/z plot"),
        ("alwayson_scripts", {"ControlNet": {"args": [{}]}}),
        ("firstpass_image", "aGVsbG8="),
        ("comments", {"a": "b"}),
        ("override_settings", {"CLIP_stop_at_last_layers": 3}),
        ("override_settings", {"emphasis": "No norm"}),
        ("override_settings", {"eta_noise_seed_delta": 31337}),
        ("override_settings", {"randn_source": "GPU"}),
        ("override_settings", {"sd_vae": "a.safetensors"}),
        ("hr_scale", "2"),
        ("lora", [{"path": "x", "multiplier": 1}]),
    ],
)
def test_what_is_not_here_is_refused_by_name(server: Server, name: str, value: Any) -> None:
    assert name in refused(txt2img(server, **{name: value}), 422)["detail"]
    assert not server.orders


def test_a_script_is_refused_in_a1111s_words(server: Server) -> None:
    assert "Script 'x/y/z plot' not found" in refused(txt2img(server, script_name="x/y/z plot"), 422)["detail"]
    scripts = refused(txt2img(server, alwayson_scripts={"ControlNet": {"args": []}}), 422)
    assert "always on script 'ControlNet' not found" in scripts["detail"]


def test_options_that_stay_are_set_elsewhere(server: Server) -> None:
    body = {"override_settings": {"sd_vae": "Automatic"}, "override_settings_restore_afterwards": False}
    assert "override_settings_restore_afterwards" in refused(txt2img(server, **body), 422)["detail"]
    assert txt2img(server, override_settings_restore_afterwards=False).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"cfg_scale": 60}, "cfg_scale=60.0: must be a number between 0 and 50"),
        ({"steps": 0}, "steps=0: must be a whole number"),
        ({"width": 100, "height": 64}, "width=100: must be a multiple of 16"),
        ({"height": -64}, "height=-64: must be"),
        ({"batch_size": 3, "n_iter": 4}, "batch_size * n_iter=12: must be a whole number between 1 and 10"),
        ({"n_iter": 0}, "n_iter=0: must be"),
        ({"batch_size": -1}, "batch_size=-1: must be"),
        ({"scheduler": "polyexponential"}, "scheduler='polyexponential': must be"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "beta"}, "scheduler='beta': must be"),
        ({"seed": -2}, "seed=-2: must be"),
        ({"subseed_strength": 2}, "subseed_strength=2.0: must be"),
        ({"prompt": ""}, "prompt: has 0 characters"),
        ({"prompt": 3}, "prompt: is int, must be text"),
        ({"steps": 20.5}, "steps=20.5: must be a whole number"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_a1111s_name(server: Server, body: dict[str, Any], said: str) -> None:
    assert refused(txt2img(server, **body), 422)["detail"].startswith(said)
    assert server.admission.images == 0
    assert not server.orders


def test_an_unknown_sampler_is_not_found(server: Server) -> None:
    error = refused(txt2img(server, sampler_name="DPM adaptive"), 404)
    assert error["detail"] == "Sampler not found"
    assert error["errors"].startswith("sampler_name='DPM adaptive': must be one of")


def test_another_checkpoint_is_not_found(server: Server) -> None:
    error = refused(txt2img(server, override_settings={"sd_model_checkpoint": "sd15"}), 404)
    assert error["detail"] == "override_settings.sd_model_checkpoint='sd15': must be 'toy', the only one that is served"
    for name in ("toy", f"toy [{server.pinning.record.live.pins[Kind.DENOISER].sha256[:10]}]"):
        assert txt2img(server, override_settings={"sd_model_checkpoint": name}).status_code == 200


def test_an_error_while_drawing_has_a1111s_shape(server: Server) -> None:
    async def fail(_order: Order, _every: int) -> Any:
        raise GivenUpError("2 replicas stopped")
        yield

    server.watch = fail
    assert refused(txt2img(server), 500)["detail"] == "2 replicas stopped"

    async def full(_order: Order, _every: int) -> Any:
        raise OverloadedError("too much", 4)
        yield

    server.watch = full
    response = txt2img(server)
    assert refused(response, 429)["detail"] == "too much"
    assert response.headers["retry-after"] == "4"
    assert server.admission.images == 0


def test_a_body_that_is_none_is_refused_in_its_shape(server: Server) -> None:
    plain = server.request("POST", "/sdapi/v1/txt2img", content="prompt=a", headers={"content-type": "text/plain"})
    refused(plain, 415)
    broken = server.request("POST", "/sdapi/v1/txt2img", content="{", headers={"content-type": "application/json"})
    refused(broken, 400)
    refused(server.request("GET", "/sdapi/v1/txt2img"), 405)
    refused(server.request("GET", "/sdapi/v1/interrogate"), 404)
    # other faces keep theirs
    assert "error" in server.request("GET", "/v1/nothing").json()
    assert "detail" not in server.request("GET", "/v1/nothing").json()


def test_every_batch_counts_and_every_picture_is_admitted_at_once(server: Server) -> None:
    admitted = []

    async def watch(order: Order, _every: int) -> Any:
        admitted.append(server.admission.images)
        yield await draw_at_once(order)

    server.watch = watch
    assert txt2img(server, batch_size=2, n_iter=2).status_code == 200
    assert admitted == [4, 4]
    assert server.admission.images == 0
    refused(txt2img(server, batch_size=5), 429)


def test_the_picture_of_the_other_face_is_the_same(server: Server) -> None:
    asked = {"prompt": "a red apple", "weighting": "a1111", "seed": 3, "steps": 7, "sampler": "euler", "size": "64x64"}
    theirs = server.generate(**asked, guidance=4)
    ours = txt2img(server, seed=3, steps=7, cfg_scale=4, sampler_name="Euler", width=64, height=64)
    assert ours.json()["images"] == [theirs.json()["data"][0]["b64_json"]]
    assert server.orders[0].request == server.orders[1].request
    assert ours.headers["x-component-versions"] == theirs.headers["x-component-versions"]


def test_a_drawn_picture_tells_of_itself_as_a1111_does(server: Server) -> None:
    [one] = txt2img(server, seed=3, width=64, height=64).json()["images"]
    picture = opened(one)
    assert isinstance(picture, Image.Image)
    assert picture.info["parameters"].startswith("a red apple\nSteps: 50, Sampler: Euler, Schedule type: Automatic")


def test_nothing_drawn_is_drawn_twice(server: Server) -> None:
    """One order a batch: what `draw` would make beside `watch` would be somebody's time."""

    async def draw(_order: Order) -> Drawn:
        raise AssertionError("it is watched")

    server.draw = draw
    assert txt2img(server).status_code == 200
    assert len(server.orders) == 1

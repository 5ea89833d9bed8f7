"""A1111's hires fix: what is drawn of its fields, and what is refused by their names."""

import json
from typing import Any

import pytest

from components.messages import Hires
from tests.services.ingress.a1111.conftest import post, refused, request_of, txt2img

Server = Any
SIZE = {"width": 64, "height": 96}


def second_of(server: Server, **body: Any) -> tuple[Hires, tuple[int, int]]:
    request = request_of(server, **{**SIZE, "steps": 12, "enable_hr": True, **body})
    assert request.hires is not None
    assert (request.hires.first_width, request.hires.first_height) == (64, 96)
    return request.hires, (request.width, request.height)


def test_what_is_left_out_is_a1111s_default(server: Server) -> None:
    hires, size = second_of(server)
    assert size == (128, 192)
    assert (hires.upscaler, hires.strength) == ("latent_bilinear", 0.75)
    # A1111 walks as many steps again as the first pass has
    assert (hires.steps, int(hires.steps * hires.strength)) == (16, 12)


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.55, 0.7, 0.999, 1.0])
@pytest.mark.parametrize("walked", [1, 7, 10])
def test_as_many_steps_are_walked_as_it_says(server: Server, strength: float, walked: int) -> None:
    hires, _ = second_of(server, hr_second_pass_steps=walked, denoising_strength=strength)
    assert int(hires.steps * hires.strength) == walked
    assert (hires.steps == 1 or int((hires.steps - 1) * hires.strength) < walked) or strength == 1


def test_the_size_is_by_a_factor_or_by_sides(server: Server) -> None:
    assert second_of(server, hr_scale=1.5)[1] == (96, 144)
    assert second_of(server, hr_resize_x=128, hr_resize_y=0)[1] == (128, 192)
    assert second_of(server, hr_resize_y=192)[1] == (128, 192)
    assert second_of(server, hr_resize_x=128, hr_resize_y=192)[1] == (128, 192)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Latent", "latent_bilinear"),
        ("Latent (antialiased)", "latent_bilinear_antialiased"),
        ("Latent (bicubic)", "latent_bicubic"),
        ("Latent (bicubic antialiased)", "latent_bicubic_antialiased"),
        ("Latent (nearest)", "latent_nearest"),
        ("Latent (nearest-exact)", "latent_nearest_exact"),
        ("Lanczos", "lanczos"),
        ("Nearest", "nearest"),
        ("None", "lanczos"),
    ],
)
def test_upscalers_go_by_a1111s_names(server: Server, label: str, name: str) -> None:
    assert second_of(server, hr_upscaler=label)[0].upscaler == name


def test_without_enable_hr_there_is_one_pass(server: Server) -> None:
    request = request_of(server, **SIZE, hr_scale=2, hr_upscaler="Latent", denoising_strength=0.5)
    assert (request.hires, request.width, request.height) == (None, 64, 96)


def test_the_first_passs_own_may_be_said_again(server: Server) -> None:
    same = {
        "hr_prompt": "a red apple",
        "hr_negative_prompt": "",
        "hr_sampler_name": "Euler a",
        "sampler_name": "Euler a",
        "hr_scheduler": "Use same scheduler",
        "hr_checkpoint_name": "Use same checkpoint",
    }
    assert second_of(server, **same)[0].upscaler == "latent_bilinear"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"hr_scale": 0.5}, "hr_scale=0.5: must be"),
        ({"hr_scale": 9}, "hr_scale=9.0: must be"),
        ({"hr_upscaler": "R-ESRGAN 4x+"}, "hr_upscaler='R-ESRGAN 4x+': must be one of Latent"),
        ({"denoising_strength": 0}, "denoising_strength=0.0: must be"),
        ({"denoising_strength": 1.5}, "denoising_strength=1.5: must be"),
        ({"hr_second_pass_steps": -1}, "hr_second_pass_steps=-1"),
        ({"hr_second_pass_steps": 100, "denoising_strength": 0.5}, "hr_second_pass_steps=200: must be"),
        ({"hr_resize_x": 128, "hr_resize_y": 128}, "hr_resize_y=128: must be in the proportions of 64x96"),
        ({"hr_resize_x": 32}, "hr_resize_x=32: must be"),
        ({"hr_prompt": "a boat"}, "hr_prompt: must be left out or the first pass's own"),
        ({"hr_sampler_name": "DDIM"}, "hr_sampler_name='DDIM': must be left out or the first pass's own"),
        ({"hr_checkpoint_name": "sdxl"}, "hr_checkpoint_name='sdxl'"),
        ({"hr_scale": 1000}, "hr_scale"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_a1111s_name(server: Server, body: dict[str, Any], said: str) -> None:
    given = {**SIZE, "steps": 12, "enable_hr": True, **body}
    assert refused(txt2img(server, **given), 422)["detail"].startswith(said)
    assert not server.orders


def test_info_and_infotext_tell_of_it_and_give_it_again(server: Server) -> None:
    given = {**SIZE, "steps": 12, "enable_hr": True, "hr_upscaler": "Lanczos", "hr_second_pass_steps": 5}
    first = txt2img(server, seed=8, denoising_strength=0.4, **given).json()
    info = json.loads(first["info"])
    assert (info["width"], info["height"], info["denoising_strength"]) == (64, 96, 0.4)
    told = {name: info["extra_generation_params"][f"Hires {name}"] for name in ("resize", "steps", "upscaler")}
    assert told == {"resize": "128x192", "steps": "5", "upscaler": "Lanczos"}
    [infotext] = info["infotexts"]
    assert "Size: 64x96" in infotext
    assert "Denoising strength: 0.4, Hires resize: 128x192, Hires steps: 5, Hires upscaler: Lanczos" in infotext
    second = post(server, "txt2img", infotext=infotext).json()
    assert second["images"] == first["images"]
    assert server.orders[-1].request == server.orders[-2].request


def test_what_a1111_cannot_say_of_a_second_pass_is_not_left_out_in_silence(server: Server) -> None:
    """Of 20 steps a third is six, which A1111 walks of nineteen."""
    hires = {"steps": 20, "strength": 0.33}
    theirs = server.generate(prompt="a boat", seed=3, size="64x64", sampler="ddim", hires=hires)
    [given] = theirs.json()["data"]
    told = post(server, "png-info", image=given["b64_json"]).json()
    assert "enable_hr" not in told["parameters"]

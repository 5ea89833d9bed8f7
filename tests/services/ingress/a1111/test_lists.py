"""What A1111's clients may choose among: nothing is listed that is refused when it is asked for."""

from dataclasses import replace
from typing import Any

import pytest

from components.contract import Kind
from diffusion.samplers.aliases import CHOICES
from tests.services.ingress.a1111.conftest import get, post, refused

Server = Any


def test_every_sampler_that_is_listed_draws_by_each_of_its_names(server: Server, api: Any) -> None:
    listed = api.get_samplers()
    assert {"Euler", "Euler a", "DPM++ 2M", "DDIM", "Heun", "LMS"} <= {one["name"] for one in listed}
    assert not any("flow" in one["name"] for one in listed), "the toy bundle is no flow"
    for one in listed:
        assert one.keys() == {"name", "aliases", "options"}
        for name in (one["name"], *one["aliases"]):
            server.orders.clear()
            response = post(server, "txt2img", prompt="a", sampler_name=name, steps=20)
            assert response.status_code == 200, response.text
            assert server.orders[0].request.sampler == CHOICES[one["name"]].sampler
    assert api.util_get_sampler_names() == sorted(one["name"] for one in listed)


def test_every_scheduler_that_is_listed_is_walked(server: Server, api: Any) -> None:
    listed = api.get_schedulers()
    assert {"automatic", "karras", "exponential", "sgm_uniform", "beta", "simple"} <= {one["name"] for one in listed}
    for one in listed:
        assert one.keys() == {"name", "label", "aliases", "default_rho", "need_inner_model"}
        for name in (one["name"], one["label"], *one["aliases"]):
            body = {"prompt": "a", "sampler_name": "DPM++ 2M", "scheduler": name, "steps": 20}
            assert post(server, "txt2img", **body).status_code == 200
    assert [one["default_rho"] for one in listed if one["name"] == "karras"] == [7.0]


def test_the_bundle_is_the_checkpoint(server: Server, api: Any) -> None:
    [one] = api.get_sd_models()
    denoiser = server.pinning.record.live.pins[Kind.DENOISER]
    assert one == {
        "title": f"toy [{denoiser.sha256[:10]}]",
        "model_name": "toy",
        "hash": denoiser.sha256[:10],
        "sha256": denoiser.sha256,
        "filename": "toy.denoiser/1",
        "config": None,
    }


def test_vaes_are_the_versions_that_are_known(server: Server, api: Any) -> None:
    assert [one["model_name"] for one in api.get_sd_vae()] == ["toy.vae_decoder/1"]
    record = server.pinning.record
    second = record.live.pins[Kind.VAE_DECODER].model_copy(update={"version": 2})
    server.pinning.record = replace(
        record, versions={**record.versions, second: record.live.contracts[Kind.VAE_DECODER]}
    )
    listed = api.get_sd_vae()
    assert [one["model_name"] for one in listed] == ["toy.vae_decoder/1", "toy.vae_decoder/2"]
    server.controller.versions["toy.vae_decoder/2"] = (second, record.live.contracts[Kind.VAE_DECODER])
    assert api.set_options({"sd_vae": listed[1]["model_name"]}) is None


def test_lists_of_what_there_is_none_of_are_empty(api: Any) -> None:
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    for listed in (
        api.get_loras(),
        api.get_hypernetworks(),
        api.get_face_restorers(),
        api.get_realesrgan_models(),
        api.get_prompt_styles(),
        api.custom_get("script-info", baseurl=True),
        api.custom_get("extensions", baseurl=True),
    ):
        assert listed == []
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_cmd_flags() == {"api": True}
    assert not api.has_controlnet


def test_latents_are_enlarged_by_a1111s_modes(api: Any) -> None:
    assert {one["name"] for one in api.get_latent_upscale_modes()} == {
        "Latent",
        "Latent (antialiased)",
        "Latent (bicubic)",
        "Latent (bicubic antialiased)",
        "Latent (nearest)",
        "Latent (nearest-exact)",
    }


def test_memory_is_this_nodes(api: Any) -> None:
    memory = api.get_memory()
    ram = memory["ram"]
    assert 0 < ram["free"] < ram["total"]
    assert ram["free"] + ram["used"] == ram["total"]
    assert "error" in memory["cuda"]


@pytest.mark.parametrize("what", ["checkpoints", "vae", "embeddings", "loras"])
def test_lists_are_always_current(server: Server, what: str) -> None:
    response = server.request("POST", f"/sdapi/v1/refresh-{what}")
    assert (response.status_code, response.json()) == (200, None)


@pytest.mark.parametrize("what", ["unload", "reload"])
def test_nobody_unloads_what_others_use(server: Server, what: str) -> None:
    error = refused(server.request("POST", f"/sdapi/v1/{what}-checkpoint"), 403)
    assert error["detail"].startswith(f"{what}-checkpoint: is not done here")


def test_upscalers_are_those_that_extra_single_image_takes(server: Server) -> None:
    assert [one["name"] for one in get(server, "upscalers").json()] == ["None", "Lanczos", "Nearest"]

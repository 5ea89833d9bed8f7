"""What the server says that may be asked for: each of it is taken by the route that draws, and no more is."""

from typing import Any

import httpx
import pytest

from components.contract import Kind
from diffusion.samplers.aliases import find_choice, find_schedule_name
from pipeline.request import RequestRules
from pipeline.upscalers import UPSCALERS
from registry.rollout.state import Canary
from services.ingress.app import create_app
from services.ingress.orders.capabilities import CapabilitiesFace, capabilities
from services.keys.keyring import Keyring
from services.messages import LiveModel
from tests.services.conftest import record_of
from tests.services.ingress.conftest import RETRY_AFTER_S, Server, error_of

PATH = "/v1/capabilities"


@pytest.fixture
def told(server: Server) -> dict[str, Any]:
    face = CapabilitiesFace(server.pinning, RequestRules())
    server.app = create_app([*server.faces, face], server.metrics, RETRY_AFTER_S)
    answer = server.request("GET", PATH)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found: dict[str, Any] = answer.json()
    return found


def drawn(server: Server, **body: Any) -> httpx.Response:
    return server.generate(prompt="a boat", **body)


def test_the_defaults_are_what_a_request_has_that_names_none(server: Server, told: dict[str, Any]) -> None:
    assert drawn(server).status_code == 200
    request = server.orders[-1].request
    defaults = told["defaults"]
    assert defaults.pop("size") == f"{request.width}x{request.height}"
    assert defaults.pop("strength") == RequestRules().default_strength
    assert defaults == {
        name: getattr(request, name) for name in ("steps", "guidance", "sampler", "schedule", "weighting")
    }
    assert told["model"] == server.request("GET", "/v1/models").json()["data"][0]["id"]
    assert told["tasks"] == ["text_to_image", "two_passes", "image_to_image", "inpainting"]
    assert told["upscalers"] == list(UPSCALERS)


def test_every_walk_that_is_told_is_taken_and_no_other(server: Server, told: dict[str, Any]) -> None:
    schedules = {one["name"] for one in told["schedules"]}
    assert {"default", "karras"} <= schedules
    for sampler in told["samplers"]:
        for schedule in schedules:
            status = drawn(server, sampler=sampler["name"], schedule=schedule).status_code
            assert (status == 200) == (schedule in sampler["schedules"]), (sampler["name"], schedule)
    assert drawn(server, sampler="flow_euler").status_code == 422
    assert "flow_euler" not in [one["name"] for one in told["samplers"]]


def test_labels_are_names_that_a_request_may_use_too(told: dict[str, Any]) -> None:
    for sampler in told["samplers"]:
        assert find_choice(sampler["label"]).sampler == sampler["name"]
        assert not sampler["label"].endswith("Scheduler")
    for schedule in told["schedules"]:
        assert find_schedule_name(schedule["label"]) == schedule["name"]


def test_a_limit_is_taken_and_what_is_beyond_is_not(server: Server, told: dict[str, Any]) -> None:
    limits = told["limits"]
    side, multiple = limits["min_side"], limits["side_multiple"]
    tall = limits["pixels"] // side
    for within, beyond in (
        ({"steps": limits["steps"]}, {"steps": limits["steps"] + 1}),
        ({"guidance": limits["guidance"]}, {"guidance": limits["guidance"] + 0.1}),
        ({"clip_skip": limits["clip_skip"]}, {"clip_skip": limits["clip_skip"] + 1}),
        ({"n": 4}, {"n": limits["images"] + 1}),
        ({"size": f"{side}x{side}"}, {"size": f"{side - multiple}x{side}"}),
        ({"size": f"{side}x{tall}"}, {"size": f"{side}x{tall + multiple}"}),
        ({"size": f"{side}x{side + multiple}"}, {"size": f"{side}x{side + multiple // 2}"}),
        ({"stream": True, "partial_images": limits["partial_images"]}, {"stream": True, "partial_images": 4}),
        ({"negative_prompt": "a" * limits["prompt_characters"]}, {"negative_prompt": "a" * 4001}),
    ):
        assert drawn(server, **within).status_code == 200, within
        error_of(drawn(server, **beyond), 422)


def test_a_denoiser_without_previews_says_so(live: LiveModel) -> None:
    contracts = {**live.contracts, Kind.DENOISER: live.contracts[Kind.DENOISER].model_copy(update={"preview": None})}
    told = capabilities(record_of(LiveModel(live.bundle, live.pins, contracts)), RequestRules())
    assert told.limits.partial_images == 0


def test_versions_are_those_that_are_live_rolled_out_or_pointed_at(live: LiveModel) -> None:
    decoder = live.pins[Kind.VAE_DECODER]
    second, third, fourth = (decoder.model_copy(update={"version": at, "sha256": f"{at}" * 64}) for at in (2, 3, 4))
    record = record_of(
        live,
        versions={second: live.contracts[Kind.VAE_DECODER]},
        canary=Canary(ref=second, percent=5),
        aliases={
            decoder.name: {"candidate": third, "best": third, "production": decoder},
            "other.vae_decoder": {"a": fourth},
        },
    )
    told = capabilities(record, RequestRules()).components
    assert [(one.version, one.live, one.aliases) for one in told["vae_decoder"]] == [
        (1, True, ["production"]),
        (2, False, []),
        (3, False, ["best", "candidate"]),
    ]
    assert [(one.name, one.version) for one in told["denoiser"]] == [("toy.denoiser", 1)]
    assert list(told) == ["text_encoder", "denoiser", "vae_decoder"], "the kinds that a request may name"


def test_it_takes_a_key_where_one_is_asked_for(server: Server) -> None:
    face = CapabilitiesFace(server.pinning, RequestRules())
    server.app = create_app([face], server.metrics, RETRY_AFTER_S, Keyring([]))
    error_of(server.request("GET", PATH), 401)


def test_the_document_describes_it(server: Server, told: dict[str, Any]) -> None:
    document = server.request("GET", "/openapi.json").json()
    schema = document["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Capabilities"}
    assert set(document["components"]["schemas"]["Capabilities"]["properties"]) == set(told)

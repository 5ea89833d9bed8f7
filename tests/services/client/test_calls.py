"""Both clients against the real application: what they send, and what they make of the answers."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from PIL import Image
from pydantic import BaseModel

from registry.commands.server_status import ServerStatus
from services.client import answers, events
from services.client.answers import Drawing, Usage
from services.client.errors import ServerRefused, UnreadableAnswer
from services.client.options import EditOptions, Options
from services.ingress.http.errors import SignatureError
from services.ingress.operations import health
from services.ingress.stories import schemas as stories
from services.ingress.wire import requests, schemas
from services.messages import Drawn, LiveModel, Order
from tests.services.client.conftest import Caller
from tests.services.ingress.access.test_tenants import ANN, OPERATOR, with_keys
from tests.services.ingress.conftest import Server, draw_at_once, listening
from tests.services.ingress.controls import EDGES, INK, LINES, STYLE, with_controls
from tests.services.ingress.latents.test_face import ID

# what the client says itself, what does nothing here, and jobs, which it has no calls for
NOT_SETTINGS = {"prompt", "response_format", "stream", "partial_images", "progress", "style", "background"} | {
    "moderation",
    "input_fidelity",
    "on_disconnect",
}


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


def test_pictures_and_everything_about_them(url: str, caller: Caller, live: LiveModel) -> None:
    drawing: Drawing = caller.ask(url, "generate", "a red apple", n=2, seed=5, size="128x64", output_format="webp")
    assert [(one.seed, opened(one.data).size, opened(one.data).format) for one in drawing.pictures] == [
        (5, (128, 64), "WEBP"),
        (6, (128, 64), "WEBP"),
    ]
    assert (drawing.model, drawing.size, drawing.output_format, drawing.quality) == ("toy", "128x64", "webp", "medium")
    assert drawing.usage == Usage(input_tokens=3, output_tokens=2 * 16 * 8, total_tokens=3 + 2 * 16 * 8)
    assert drawing.request_id is not None
    assert {str(pin) for pin in drawing.components.values()} == {str(pin) for pin in live.pins.values()}
    assert "b64_json" not in repr(drawing)
    assert len(repr(drawing)) < 2000, "a picture's bytes are shown"


def test_every_setting_reaches_the_server(server: Server, url: str, caller: Caller) -> None:
    given: dict[str, Any] = {
        "negative_prompt": "blurry",
        "seed": 3,
        "steps": 7,
        "guidance": 0.0,
        "sampler": "euler",
        "schedule": "karras",
        "subseed": 9,
        "subseed_strength": 0.25,
        "priority": "low",
        "store_latents": True,
    }
    caller.ask(url, "generate", 'naïve "\u2028😀', **given)
    [order] = server.orders
    request = order.request
    assert request.prompt == 'naïve "\u2028😀'
    assert {name: getattr(request, name) for name in given if hasattr(request, name)} == {
        name: value for name, value in given.items() if hasattr(request, name)
    }
    assert (order.terms.priority, order.store_latents) == ("low", True)


@pytest.mark.parametrize(("ours", "theirs"), [(Options, requests.GenerationBody), (EditOptions, requests.EditBody)])
def test_options_are_the_servers_fields(ours: Any, theirs: type[BaseModel]) -> None:
    hints = get_type_hints(ours)
    null_alone = {name for name, one in theirs.model_json_schema()["properties"].items() if one.get("type") == "null"}
    assert hints.keys() == theirs.model_fields.keys() - NOT_SETTINGS - null_alone
    described = theirs.model_json_schema()["properties"]
    words = {int: "integer", float: "number", str: "string", bool: "boolean"}
    for name, hint in hints.items():
        [kind, null] = described[name]["anyOf"]
        assert null == {"type": "null"}
        if hint in words:
            assert kind["type"] == words[hint], name
        elif get_origin(hint) is Sequence:
            [item] = get_args(hint)
            assert kind["type"] == "array", name
            assert item not in words or kind["items"] == {"type": words[item]}, name
        else:
            assert "$ref" in kind or kind["type"] == "object" or kind["enum"] == list(get_args(hint)), name


@pytest.mark.parametrize(
    ("ours", "theirs", "renamed"),
    [
        (answers.Drawing, schemas.GenerationAnswer, {"data": "pictures"}),
        (answers.Picture, schemas.GeneratedImage, {"b64_json": "data"}),
        (answers.Usage, schemas.Usage, {}),
        (answers.ComponentPin, schemas.ComponentPin, {}),
        (answers.Inspection, stories.Inspection, {}),
        (answers.Verification, stories.Verification, {}),
        (answers.VerifiedComponent, stories.VerifiedComponent, {}),
        (answers.Readiness, health.Readiness, {}),
        (answers.Timings, schemas.StageTimings, {}),
        (events.Queued, schemas.QueuedEvent, {}),
        (events.Step, schemas.ProgressEvent, {"image_index": "image"}),
        (events.Preview, schemas.PartialImageEvent, {"b64_json": "data"}),
    ],
)
def test_answers_hold_what_the_server_tells(ours: type[BaseModel], theirs: type[BaseModel], renamed: Any) -> None:
    renamed = {"image_index": "image", "partial_image_index": "index", **renamed}
    told = {renamed.get(name, name) for name in theirs.model_fields}
    # the client's own, and what says nothing that is not elsewhere in the answer
    assert ours.model_fields.keys() - told <= {"request_id"}
    left = {"object", "seed", "background", "url", "input_tokens_details", "output_tokens_details"}
    told_by_all = {"type", "created_at", "size", "quality", "output_format"} if "image" in told else set()
    assert told - ours.model_fields.keys() <= left | told_by_all


def test_an_edit_sends_its_pictures_and_settings(server: Server, url: str, caller: Caller, photo: Path) -> None:
    hole = Image.new("L", (64, 64), 0)
    hole.paste(255, (32, 0, 64, 64))
    out = io.BytesIO()
    hole.save(out, "PNG")
    pins = {"components": {"text_encoder": "toy.text_encoder/1"}}
    server.controller.versions["toy.text_encoder/1"] = next(
        (pin, server.pinning.record.live.contracts[kind])
        for kind, pin in server.pinning.record.live.pins.items()
        if kind == "text_encoder"
    )
    drawing = caller.ask(url, "edit", photo, "", out.getvalue(), strength=0.5, seed=4, store_latents=True, **pins)
    assert drawing.pictures[0].seed == 4
    [order] = server.orders
    assert (order.request.prompt, order.request.strength, order.store_latents) == ("", 0.5, True)
    assert order.source is not None
    assert order.source.mask is not None
    assert order.source.pixels.reshape(-1, 3).tolist()[0] == [255, 0, 0]
    assert server.controller.asked == ["toy.text_encoder/1"]


@pytest.mark.parametrize("edits", [False, True])
def test_control_pictures_are_sent_and_told_of(
    server: Server, url: str, caller: Caller, photo: Path, live: LiveModel, edits: bool
) -> None:
    with_controls(server, live)
    controls = [{"model": EDGES.name, "image": photo, "scale": 0.5}, {"model": LINES.name, "image": photo.read_bytes()}]
    given = ("edit", photo, "a") if edits else ("generate", "a")
    drawing: Drawing = caller.ask(url, *given, controls=controls, seed=3, size="64x64")
    [order] = server.orders
    assert [(one.model, one.scale) for one in order.request.controls] == [(str(EDGES), 0.5), (str(LINES), 1.0)]
    assert [pixels.reshape(-1, 3).tolist()[0] for pixels in order.controls] == [[255, 0, 0]] * 2
    source = {"source": photo} if edits else {}
    said = caller.ask(url, "verify", drawing.pictures[0].data, controls=[photo, photo], **source)
    assert said.equal
    assert said.made_from is not None
    assert len(said.made_from.controls) == 2


@pytest.mark.parametrize("edits", [False, True])
def test_loras_and_pictures_to_be_like_are_sent(
    server: Server, url: str, caller: Caller, photo: Path, live: LiveModel, edits: bool
) -> None:
    with_controls(server, live)
    given = ("edit", photo, "a") if edits else ("generate", "a")
    loras = [{"model": STYLE.name, "scale": -0.5}, {"model": INK.name}]
    drawing: Drawing = caller.ask(
        url, *given, loras=loras, image_prompts=[photo], image_prompt_scale=0.25, seed=3, size="64x64"
    )
    assert [pin.name for pin in drawing.beside] == [STYLE.name, INK.name]
    [order] = server.orders
    assert [(one.model, one.scale) for one in order.request.loras] == [(str(STYLE), -0.5), (str(INK), 1.0)]
    assert (len(order.image_prompts), order.request.image_prompt_scale) == (1, 0.25)
    source = {"source": photo} if edits else {}
    assert caller.ask(url, "verify", drawing.pictures[0].data, image_prompts=[photo], **source).equal


def test_a_variation_takes_a_picture_alone(server: Server, url: str, caller: Caller, photo: Path) -> None:
    caller.ask(url, "vary", photo.read_bytes(), n=2)
    [order] = server.orders
    assert (order.request.prompt, order.request.strength, order.request.n) == ("", 0.6, 2)


def test_a_stream_tells_steps_previews_and_pictures(url: str, caller: Caller, live: LiveModel) -> None:
    told = caller.stream(url, "stream", "a red apple", previews=2, steps=6, n=2, seed=7)
    steps = [one for one in told if isinstance(one, events.Step)]
    previews = [one for one in told if isinstance(one, events.Preview)]
    finished = [one for one in told if isinstance(one, events.Finished)]
    assert [(one.image, one.step, one.steps) for one in steps] == [(i, s, 6) for s in range(1, 7) for i in (0, 1)]
    assert [(one.image, one.index, opened(one.data).size) for one in previews] == [
        (image, index, (64, 64)) for index in (0, 1) for image in (0, 1)
    ]
    assert [opened(one.picture.data).getpixel((0, 0)) for one in finished] == [(7, 7, 7), (8, 8, 8)]
    assert sum(one.usage.input_tokens for one in finished) == 3
    assert finished[0].components["denoiser"].sha256 == live.pins["denoiser"].sha256  # type: ignore[index]


@pytest.mark.parametrize(("method", "more"), [("stream_edit", ["a"]), ("stream_vary", [])])
def test_what_begins_with_a_picture_streams_too(
    url: str, caller: Caller, photo: Path, method: str, more: list[str]
) -> None:
    *steps, finished = caller.stream(url, method, photo, *more, steps=4, strength=1.0)
    assert [type(one) for one in steps] == [events.Step] * 4
    assert opened(finished.picture.data).size == (64, 64)


def test_kept_latents_are_decoded_and_compared(url: str, caller: Caller, latents: Any) -> None:
    drawing = caller.ask(url, "decode", ID, "toy.vae_decoder/2", user="me", output_format="jpeg")
    assert (drawing.usage, opened(drawing.pictures[0].data).format) == (None, "JPEG")
    assert str(drawing.components["vae_decoder"]) == "toy.vae_decoder/2"
    found = caller.ask(url, "compare", ID, "toy.vae_decoder/1", "toy.vae_decoder/2", user="me")
    assert opened(found.sheet).format == "PNG"
    assert (found.psnr_db, found.max_difference, found.difference_factor, found.identical) == (41.27, 5, 32, False)
    assert caller.refused(url, "decode", "another?user=me#1").code == "latents_not_found"
    latents.psnr_db = float("inf")
    assert caller.ask(url, "compare", ID, "toy.vae_decoder/1", "toy.vae_decoder/1", user="me").psnr_db is None


def test_a_picture_is_drawn_again_from_what_it_tells(url: str, caller: Caller, tmp_path: Path) -> None:
    first = caller.ask(url, "generate", "a red apple", seed=5, steps=9, sampler="euler").pictures[0]
    path = tmp_path / "first.png"
    path.write_bytes(first.data)
    found = caller.ask(url, "inspect", path)
    assert (found.source, found.request["prompt"], found.request["steps"]) == ("latentworks", "a red apple", 9)
    again = {name: value for name, value in found.request.items() if name != "components"}
    assert caller.ask(url, "generate", **again).pictures[0].data == first.data


def test_models_readiness_and_rollout(server: Server, url: str, caller: Caller) -> None:
    assert [one.id for one in caller.ask(url, "models")] == ["toy"]
    assert caller.ask(url, "ready").replicas["denoiser"] == 1
    rollout: ServerStatus = caller.ask(url, "rollout")
    assert [str(one) for one in rollout.live] == ["toy.denoiser/1"]
    server.standings = {}
    refused = caller.refused(url, "ready")
    assert (refused.status, caller.slept) == (503, [])


def test_a_key_goes_with_every_call_and_is_shown_nowhere(
    server: Server, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(server)
    with listening(server) as address:
        refused = caller.refused(address, "models")
        assert (refused.status, refused.code) == (401, "invalid_api_key")
        assert caller.refused(address, "rollout", key=ANN).status == 403
        assert caller.ask(address, "generate", "a", key=ANN).model == "toy"
        monkeypatch.setenv("LATENTWORKS_SERVER_KEY", ANN)
        assert caller.ask(address, "models")
        assert caller.refused(address, "models", key="").status == 401
        monkeypatch.setenv("LATENTWORKS_SERVER", address)
        assert caller.ask(None, "models")  # type: ignore[arg-type]
        wrong = caller.refused(address, "models", key=f"{OPERATOR}-wrong")
    assert OPERATOR not in repr(wrong) + str(wrong)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "http://ann:secret@a", "http://[::1"])
def test_an_address_that_is_none_is_refused_without_what_it_holds(url: str, caller: Caller) -> None:
    error = caller.refused(url, "models")
    assert error.message.startswith("url: ")
    assert "secret" not in error.message


def test_a_key_that_no_header_holds_is_refused_and_not_quoted(caller: Caller) -> None:
    error = caller.refused("http://127.0.0.1:1", "models", key="lw-ü\n")
    assert error.message == "key: must be printable ASCII without spaces"


def test_a_refusal_names_field_code_and_request(url: str, caller: Caller) -> None:
    error: ServerRefused = caller.refused(url, "generate", "a", steps=0)
    assert (error.status, error.param, error.code) == (422, "steps", "invalid_value")
    assert error.message.startswith("steps=0: must be")
    assert error.request_id
    assert caller.slept == []
    assert caller.refused(url, "generate", "a", guidance=float("nan")).code == "invalid_json"
    assert caller.refused(url, "generate", "a", nonsense=1).param == "nonsense"


def test_an_answer_of_another_server_is_told_as_such(server: Server, url: str, caller: Caller) -> None:
    server.controller.status = {"bundle": 3}
    assert isinstance(caller.refused(url, "rollout"), UnreadableAnswer)
    # a path of the server's on which no such face is
    refused = caller.refused(f"{url}/elsewhere", "models")
    assert (refused.status, refused.code) == (404, "not_found")


async def _fails(order: Order) -> Drawn:
    await draw_at_once(order)
    raise SignatureError("this came late")


def test_an_error_within_a_stream_is_raised(server: Server, url: str, caller: Caller) -> None:
    async def late(order: Order, _every: int) -> Any:
        from services.messages import Progress

        yield Progress(0, 1, 25, None)
        await _fails(order)

    server.watch = late
    with pytest.raises(ServerRefused, match="this came late") as caught:
        caller.stream(url, "stream", "a", seed=1)
    assert (caught.value.status, caught.value.code, caller.slept) == (None, "invalid_signature", [])

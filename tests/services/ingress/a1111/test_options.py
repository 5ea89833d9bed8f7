"""A1111's options: whose they are, what they do, and that a change waits its turn."""

import asyncio
from typing import Any

import pytest
from PIL import Image

from components.contract import Kind
from components.reference import ComponentRef
from services.messages import Order
from tests.services.ingress.a1111.conftest import API, get, post, refused
from tests.services.ingress.access.test_tenants import ANN, BEN, with_keys
from tests.services.ingress.conftest import draw_at_once

Server = Any
SECOND = "toy.vae_decoder/2"


@pytest.fixture
def second(server: Server) -> ComponentRef:
    """Another version of the VAE decoder."""
    live = server.pinning.record.live
    made: ComponentRef = live.pins[Kind.VAE_DECODER].model_copy(update={"version": 2, "sha256": "f" * 64})
    server.controller.versions[SECOND] = (made, live.contracts[Kind.VAE_DECODER])
    server.controller.versions["toy.vae_decoder@candidate"] = (made, live.contracts[Kind.VAE_DECODER])
    return made


def drawn_by(order: Order) -> int:
    return order.pins[Kind.VAE_DECODER].version


def test_options_are_those_of_the_checkpoint(server: Server, api: Any) -> None:
    options = api.get_options()
    assert options["sd_model_checkpoint"] == api.get_sd_models()[0]["title"]
    assert (options["sd_vae"], options["CLIP_stop_at_last_layers"]) == ("Automatic", 1)
    assert api.util_get_current_model() == options["sd_model_checkpoint"]
    # clients change one and send all of them back
    assert api.set_options(options) is None
    assert api.get_options() == options
    api.util_set_model("toy")
    assert server.orders == []


@pytest.mark.parametrize("name", [SECOND, "toy.vae_decoder@candidate"])
def test_another_vae_draws_what_comes_later(server: Server, api: Any, second: ComponentRef, name: str) -> None:
    api.txt2img(prompt="a", width=64, height=64)
    api.set_options({"sd_vae": name})
    assert api.get_options()["sd_vae"] == name
    result = api.txt2img(prompt="a", width=64, height=64)
    assert result.info["sd_vae_name"] == str(second)
    api.set_options({"sd_vae": "Automatic"})
    api.txt2img(prompt="a", width=64, height=64)
    assert [drawn_by(order) for order in server.orders] == [1, 2, 1]


def test_a_change_waits_its_turn(server: Server, second: ComponentRef) -> None:
    """Requests that came before it keep what was set then, also those whose pictures are not begun."""

    async def scenario() -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def watch(order: Order, _every: int) -> Any:
            reached.set()
            await go_on.wait()
            yield await draw_at_once(order)

        server.watch = watch
        body = {"prompt": "a", "width": 64, "height": 64}
        before = asyncio.create_task(server.arequest("POST", f"{API}/txt2img", json={**body, "n_iter": 2}))
        await reached.wait()
        changed = await server.arequest("POST", f"{API}/options", json={"sd_vae": SECOND})
        assert changed.status_code == 200
        after = asyncio.create_task(server.arequest("POST", f"{API}/txt2img", json=body))
        while len(server.orders) < 2:
            await asyncio.sleep(0.005)
        go_on.set()
        assert {(await one).status_code for one in (before, after)} == {200}

    asyncio.run(scenario())
    assert [drawn_by(order) for order in server.orders] == [1, 2, 1]
    assert second.version == 2


def test_a_request_keeps_what_was_set_when_it_came_however_long_its_body_takes(
    server: Server, second: ComponentRef
) -> None:
    async def scenario() -> None:
        sent = asyncio.Event()

        async def slowly() -> Any:
            yield b'{"prompt": "a", "width": 64, '
            await sent.wait()
            yield b'"height": 64}'

        headers = {"content-type": "application/json"}
        asking = asyncio.create_task(server.arequest("POST", f"{API}/txt2img", content=slowly(), headers=headers))
        await asyncio.sleep(0.05)
        await server.arequest("POST", f"{API}/options", json={"sd_vae": SECOND})
        sent.set()
        assert (await asking).status_code == 200

    asyncio.run(scenario())
    assert drawn_by(server.orders[0]) == 1
    assert second.version == 2


def test_changes_take_effect_in_the_order_in_which_they_came(server: Server, second: ComponentRef) -> None:
    async def scenario() -> None:
        server.controller.answers.clear()
        first = asyncio.create_task(server.arequest("POST", f"{API}/options", json={"sd_vae": SECOND}))
        while not server.controller.asked:
            await asyncio.sleep(0.005)
        later = asyncio.create_task(server.arequest("POST", f"{API}/options", json={"sd_vae": "Automatic"}))
        await asyncio.sleep(0.05)
        server.controller.answers.set()
        await asyncio.gather(first, later)

    asyncio.run(scenario())
    assert get(server, "options").json()["sd_vae"] == "Automatic"
    assert second.version == 2


def test_each_key_has_its_own(server: Server, second: ComponentRef) -> None:
    with_keys(server)

    def ask(key: str, method: str, path: str, **body: Any) -> Any:
        arguments = {"json": body} if method == "POST" else {}
        return server.request(method, f"{API}/{path}", headers={"authorization": f"Bearer {key}"}, **arguments)

    assert ask(ANN, "POST", "options", sd_vae=SECOND).status_code == 200
    assert ask(BEN, "GET", "options").json()["sd_vae"] == "Automatic"
    for key in (ANN, BEN):
        assert ask(key, "POST", "txt2img", prompt="a").status_code == 200
    assert [drawn_by(order) for order in server.orders] == [2, 1]
    assert second.version == 2


def test_a_request_may_have_another_vae_alone(server: Server, second: ComponentRef) -> None:
    body = {"prompt": "a", "override_settings": {"sd_vae": SECOND}}
    assert post(server, "txt2img", **body).status_code == 200
    assert post(server, "txt2img", prompt="a").status_code == 200
    post(server, "options", sd_vae=SECOND)
    assert post(server, "txt2img", prompt="a", override_settings={"sd_vae": "None"}).status_code == 200
    assert [drawn_by(order) for order in server.orders] == [2, 1, 1]
    assert second.version == 2


def test_noise_may_be_cudas(server: Server) -> None:
    assert post(server, "options", randn_source="NV").status_code == 200
    post(server, "txt2img", prompt="a")
    post(server, "txt2img", prompt="a", override_settings={"randn_source": "CPU"})
    assert [order.request.rng for order in server.orders] == ["philox", "torch"]


def test_a_layer_of_the_text_encoder_may_be_skipped(server: Server, api: Any) -> None:
    api.set_options({"CLIP_stop_at_last_layers": 2})
    assert api.get_options()["CLIP_stop_at_last_layers"] == 2
    asked = {"prompt": "a", "width": 64, "height": 64}
    result = api.txt2img(**asked)
    assert result.info["clip_skip"] == 2
    assert "Clip skip: 2" in result.info["infotexts"][0]
    api.txt2img(**asked, override_settings={"CLIP_stop_at_last_layers": 1})
    api.set_options({"CLIP_stop_at_last_layers": 1})
    api.txt2img(**asked)
    api.txt2img(**asked, override_settings={"CLIP_stop_at_last_layers": 2})
    assert [order.request.clip_skip for order in server.orders] == [2, 1, 1, 2]


def test_signs_weigh_unless_an_option_says_otherwise(server: Server, api: Any) -> None:
    asked = {"prompt": "a (red:1.3) apple", "width": 64, "height": 64}
    api.txt2img(**asked)
    api.img2img(images=[Image.new("RGB", (64, 64))], **asked)
    api.txt2img(**asked, override_settings={"emphasis": "None"})
    api.set_options({"emphasis": "None"})
    assert api.get_options()["emphasis"] == "None"
    api.txt2img(**asked)
    api.txt2img(**asked, override_settings={"emphasis": "Original"})
    assert [order.request.weighting for order in server.orders] == ["a1111", "a1111", "none", "none", "a1111"]


def test_what_is_null_or_empty_changes_nothing(server: Server, second: ComponentRef) -> None:
    chosen = {"sd_vae": SECOND, "randn_source": "NV", "emphasis": "None", "CLIP_stop_at_last_layers": 2}
    assert post(server, "options", **chosen).status_code == 200
    shown = get(server, "options").json()
    assert chosen.items() <= shown.items()
    for nothing in (None, ""):
        assert post(server, "options", **dict.fromkeys(shown, nothing)).status_code == 200
        assert get(server, "options").json() == shown
        body = {"prompt": "a", "override_settings": dict.fromkeys(shown, nothing)}
        assert post(server, "txt2img", **body).status_code == 200
        request = server.orders[-1].request
        assert (drawn_by(server.orders[-1]), request.rng, request.weighting, request.clip_skip) == (
            second.version,
            "philox",
            "none",
            2,
        )


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("sd_vae", "toy.vae_decoder/9", 422),
        ("sd_vae", "toy.denoiser/1", 422),
        ("sd_vae", "vae-ft-mse-840000.safetensors", 422),
        ("sd_vae", 3, 422),
        # the toy's text encoder has two layers
        ("CLIP_stop_at_last_layers", 3, 422),
        ("CLIP_stop_at_last_layers", 0, 422),
        ("CLIP_stop_at_last_layers", True, 422),
        ("CLIP_stop_at_last_layers", 1.5, 422),
        ("CLIP_stop_at_last_layers", "2", 422),
        ("emphasis", "No norm", 422),
        ("emphasis", 1, 422),
        ("samples_format", "jpg", 422),
        ("randn_source", "GPU", 422),
        ("eta_noise_seed_delta", 31337, 422),
        ("sd_model_checkpoint", "sd15.safetensors", 404),
        ("sd_checkpoint_hash", "abc", 422),
    ],
)
def test_what_cannot_be_set_is_refused_by_name_and_changes_nothing(
    server: Server, name: str, value: Any, status: int
) -> None:
    assert name in refused(post(server, "options", **{"randn_source": "NV", name: value}), status)["detail"]
    options = get(server, "options").json()
    assert (options["randn_source"], options["sd_vae"]) == ("CPU", "Automatic")


def test_a_vae_that_does_not_fit_is_refused_with_every_mismatch(server: Server, second: ComponentRef) -> None:
    contract = server.pinning.record.live.contracts[Kind.VAE_DECODER]
    other = contract.model_copy(update={"latent_space": contract.latent_space.model_copy(update={"channels": 16})})
    server.controller.versions[SECOND] = (second, other)
    detail = refused(post(server, "options", sd_vae=SECOND), 422)["detail"]
    assert detail.startswith("sd_vae: ")
    assert "channels" in detail
    assert get(server, "options").json()["sd_vae"] == "Automatic"

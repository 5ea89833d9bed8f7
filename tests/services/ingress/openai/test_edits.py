"""Pictures that a request brings: what becomes of them, what is refused, and OpenAI's own client."""

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, ImageFilter

from components.contract import ImageChannels, Kind, TensorSpec
from components.messages import Source
from pipeline.depth import depth_plane
from pipeline.source_pictures import edit_mask, image_pixels, latent_mask
from services.messages import LiveModel, Order
from tests.pipeline import hostile
from tests.services.conftest import looking_at
from tests.services.ingress.conftest import draw_at_once, error_of, listening

Server = Any

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
MOST_PIXELS = 2**24


def file(picture: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, format_, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture(scope="module")
def mask() -> Image.Image:
    """Opaque, with a hole in its right half."""
    alpha = np.full((96, 96), 255, np.uint8)
    alpha[:, 48:] = 0
    return Image.merge("RGBA", [*Image.new("RGB", (96, 96), "white").split(), Image.fromarray(alpha)])


def post(server: Server, path: str, files: Any, accept: str = "application/json", **fields: Any) -> Any:
    return server.request("POST", path, files=files, data=fields, headers={"accept": accept})


def edit(server: Server, photo: Image.Image, mask: Image.Image | None = None, **fields: Any) -> Any:
    files = {"image": ("photo.png", file(photo), "image/png")}
    if mask is not None:
        files["mask"] = ("mask.png", file(mask), "image/png")
    return post(server, EDITS, files, **{"prompt": "a red apple", **fields})


def only(server: Server) -> tuple[Order, Source]:
    """The one order that came through, and what its pictures start from."""
    [order] = server.orders
    assert order.source is not None
    return order, order.source


def test_an_edit_starts_from_its_picture(server: Server, photo: Image.Image) -> None:
    answer = edit(server, photo, size="128x64", seed="7", steps="20", strength="0.5", n="2", guidance="3.5").json()

    order, source = only(server)
    assert (order.request.width, order.request.height, order.request.n) == (128, 64, 2)
    assert (order.request.seed, order.request.steps, order.request.guidance) == (7, 20, 3.5)
    assert order.request.strength == 0.5
    np.testing.assert_array_equal(source.pixels, image_pixels(photo, 128, 64, MOST_PIXELS))
    assert source.mask is None
    assert (answer["seed"], len(answer["data"])) == (7, 2)


def test_prompts_weigh_in_an_edit_and_a_variation(server: Server, photo: Image.Image) -> None:
    said: dict[str, Any] = {"prompt": "a (red:1.3) apple", "weighting": "a1111", "clip_skip": "2"}
    assert edit(server, photo, **said).status_code == 200
    files = {"image": ("photo.png", file(photo), "image/png")}
    assert post(server, VARIATIONS, files, **said).status_code == 200
    for order in server.orders:
        assert (order.request.weighting, order.request.clip_skip) == ("a1111", 2)
    error = error_of(edit(server, photo, prompt="(x:2000)", weighting="a1111"), 422)
    assert error["param"] == "prompt"


def test_a_mask_says_where(server: Server, photo: Image.Image, mask: Image.Image) -> None:
    assert edit(server, photo, mask, size="64x64").status_code == 200

    order, source = only(server)
    assert order.request.strength == 1
    assert source.mask is not None
    np.testing.assert_array_equal(source.mask, latent_mask(edit_mask(mask, 64, 64, MOST_PIXELS), 8))
    assert source.mask[:, 4:].all()
    assert not source.mask[:, :4].any()


@pytest.fixture
def inpainter(server: Server, live: LiveModel) -> Server:
    """A server whose denoiser sees the mask."""
    looks = (ImageChannels(source="mask", channels=1), ImageChannels(source="masked_image", channels=4))
    server.pinning.record = looking_at(live, *looks)
    return server


def test_a_denoiser_that_sees_the_mask_gets_it_in_the_pictures_own_size(
    inpainter: Server, photo: Image.Image, mask: Image.Image
) -> None:
    assert edit(inpainter, photo, mask, size="64x96").status_code == 200
    order, source = only(inpainter)
    anew = edit_mask(mask, 64, 96, MOST_PIXELS)
    np.testing.assert_array_equal(source.hidden, anew)
    np.testing.assert_array_equal(source.mask, latent_mask(anew, 8))
    assert order.request.strength == 1.0


def test_a_picture_is_brought_as_small_as_a_denoiser_that_enlarges_takes_it(
    server: Server, live: LiveModel, photo: Image.Image
) -> None:
    server.pinning.record = looking_at(
        live,
        ImageChannels(source="low_resolution", channels=3),
        inputs=(TensorSpec(name="noise_level", dtype="int64", shape=("batch",)),),
        noise_levels=351,
        low_resolution_schedule=live.contracts[Kind.DENOISER].noise_schedule,
    )
    tiny = photo.resize((10, 13))
    assert edit(server, tiny).status_code == 200
    order, source = only(server)
    # the toy VAE has a factor of 8, and its denoiser takes even sides alone
    assert (order.request.width, order.request.height, order.request.noise_level) == (80, 96, 20)
    np.testing.assert_array_equal(source.pixels, image_pixels(tiny, 10, 12, MOST_PIXELS))
    assert error_of(edit(server, tiny, noise_level=351), 422)["param"] == "noise_level"
    assert error_of(server.generate(prompt="a boat"), 422)["param"] == "image"


def test_a_picture_is_brought_half_as_large_as_a_latent_upscaler_draws_it(
    server: Server, live: LiveModel, photo: Image.Image
) -> None:
    server.pinning.record = looking_at(live, ImageChannels(source="low_resolution_latents", channels=4))
    assert edit(server, photo.resize((43, 50))).status_code == 200
    order, source = only(server)
    # twice as large in whole pairs of latents, of 16 pixels
    assert (order.request.width, order.request.height, order.sees_pixels) == (80, 96, False)
    np.testing.assert_array_equal(source.pixels, image_pixels(photo.resize((43, 50)), 40, 48, MOST_PIXELS))
    assert error_of(edit(server, photo, strength="0.5"), 422)["param"] == "strength"


def test_a_denoiser_that_sees_depth_gets_it_of_the_latents_size(
    server: Server, live: LiveModel, photo: Image.Image, mask: Image.Image
) -> None:
    server.pinning.record = looking_at(live, ImageChannels(source="depth", channels=1))
    depth = Image.fromarray(np.random.default_rng(1).integers(0, 2**16, (50, 40)).astype(np.uint16))
    files = {"image": file(photo), "mask": file(mask), "depth": file(depth)}
    assert post(server, EDITS, files, prompt="a boat", size="64x96").status_code == 200
    _, source = only(server)
    np.testing.assert_array_equal(source.depth, depth_plane(depth, 8, 12, MOST_PIXELS))
    np.testing.assert_array_equal(source.mask, latent_mask(edit_mask(mask, 64, 96, MOST_PIXELS), 8))
    for answered, field, said in (
        (server.generate(prompt="a boat"), "image", "is required, as this model changes a picture by its depth"),
        (edit(server, photo), "depth", "is required"),
        (post(server, VARIATIONS, {"image": file(photo)}), "depth", "is required"),
        (
            post(server, EDITS, {"image": file(photo), "depth": file(Image.new("L", (9, 9)))}, prompt="a"),
            "depth",
            "must be a picture of several",
        ),
    ):
        error = error_of(answered, 422)
        assert (error["param"], said in error["message"]) == (field, True), error


def test_a_denoiser_that_sees_no_depth_takes_none(server: Server, photo: Image.Image) -> None:
    error = error_of(post(server, EDITS, {"image": file(photo), "depth": file(photo)}, prompt="a"), 422)
    assert (error["param"], error["message"]) == ("depth", "depth: must be left out, as this model sees none")


def test_a_denoiser_that_sees_the_mask_draws_nothing_without_picture_and_mask(
    inpainter: Server, photo: Image.Image
) -> None:
    for answered, field in ((inpainter.generate(prompt="a boat"), "image"), (edit(inpainter, photo), "mask")):
        error = error_of(answered, 422)
        assert (error["param"], error["message"]) == (
            field,
            f"{field}: is required, as this model draws a part of a picture anew",
        )
    assert inpainter.orders == []


def test_without_a_mask_or_strength_it_is_diffusers_default(server: Server, photo: Image.Image) -> None:
    edit(server, photo)
    assert only(server)[0].request.strength == 0.8


def test_a_variation_needs_no_words(server: Server, photo: Image.Image) -> None:
    assert post(server, VARIATIONS, {"image": file(photo)}).status_code == 200
    order, _ = only(server)
    assert (order.request.prompt, order.request.strength) == ("", 0.6)


@pytest.mark.parametrize(("width", "height", "drawn"), [(30, 30, (64, 64)), (200, 100, (88, 40)), (10, 900, (64, 64))])
def test_a_size_that_nobody_asks_for_is_in_proportion(
    server: Server, width: int, height: int, drawn: tuple[int, int]
) -> None:
    edit(server, Image.new("RGB", (width, height), "red"), size="auto")
    request = only(server)[0].request
    # the toy bundle's own size is the least that there may be of a side
    assert request.width * request.height <= 64 * 64
    assert (request.width, request.height) == drawn or min(request.width, request.height) == 64


def test_versions_are_chosen_as_in_a_generation(server: Server, photo: Image.Image) -> None:
    sent: list[dict[str, Any]] = [
        {"components[vae_decoder]": "toy.vae_decoder/9"},
        {"components": '{"vae_decoder": "toy.vae_decoder/9"}'},
    ]
    for fields in sent:
        error = error_of(edit(server, photo, **fields), 422)
        assert error["param"] == "components.vae_decoder"
        assert "toy.vae_decoder/9 is not in the registry" in error["message"]


def test_a_stream_is_of_edits(server: Server, photo: Image.Image) -> None:
    said = edit(server, photo, stream="true", partial_images="1", steps="10", strength="0.5", accept="*/*").text
    assert said.count("event: image_edit.partial_image") == 1
    assert said.count("event: image_edit.completed") == 1


def test_what_was_not_filled_in_asks_for_nothing(server: Server, photo: Image.Image) -> None:
    inert: dict[str, Any] = {
        "model": "",
        "n": "",
        "size": "",
        "quality": "",
        "background": "auto",
        "input_fidelity": "low",
        "user": "",
    }
    assert edit(server, photo, **inert).status_code == 200
    assert edit(server, photo, strength="").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"strength": "2"}, "strength", "strength=2.0: must be a number between 0 and 1"),
        ({"strength": "nan"}, "strength", "must be a number between 0 and 1"),
        ({"strength": "much"}, "strength", "strength='much': must be a number"),
        ({"strength": "0.01", "steps": "10"}, "strength", "at least 1/10 for 10 steps"),
        ({"n": "two"}, "n", "n='two': must be a whole number"),
        ({"n": "1.5"}, "n", "must be a whole number"),
        ({"stream": "maybe"}, "stream", "must be true or false"),
        ({"input_fidelity": "high"}, "input_fidelity", "'low' or left out"),
        ({"components": "[]"}, "components", "components"),
        ({"style": "vivid"}, "style", "it would do nothing here"),
        ({"colour": "red"}, "colour", "'colour': no such field"),
        ({"image": "a text"}, "image", "no such field"),
        ({"seed": "9" * 5000}, "seed", "seed"),
    ],
)
def test_fields_are_refused_by_name(
    server: Server, photo: Image.Image, fields: dict[str, Any], param: str, said: str
) -> None:
    error = error_of(edit(server, photo, **fields), 422)
    assert error["param"] == param
    assert said in error["message"]
    assert server.orders == []
    assert server.admission.images == 0


@pytest.mark.parametrize(
    ("files", "param", "said"),
    [
        ([], None, None),
        ([("mask", b"")], "mask", "must be a picture"),
        ([("image", b"no picture")], "image", "must be a picture"),
        ([("image", None), ("image", None)], "image", "is there twice"),
        ([("image[]", None), ("image[]", None)], "image", "is there twice"),
        ([("picture", None)], "picture", "no such file; there are image, mask, depth"),
        ([("mask", None)], "image", "is required"),
        ([("image", hostile.huge("PNG"))], "image", "image=50000x50000: must have 1 to 16777216 pixels"),
        ([("image", None), ("mask", hostile.huge("GIF"))], "mask", "mask=50000x50000: must have 1 to 16777216 pixels"),
        ([("image", hostile.animated())], "image", "is animated"),
        ([("image", None), ("mask", b"\x89PNG\r\n\x1a\n")], "mask", "cannot be read as a picture"),
    ],
)
def test_files_are_refused_by_name(
    server: Server, photo: Image.Image, files: list[tuple[str, bytes | None]], param: str | None, said: str | None
) -> None:
    sent = [(name, (name, file(photo) if data is None else data)) for name, data in files]
    response = post(server, EDITS, sent, prompt="a boat")
    if param is None:
        assert response.status_code == 415
        return
    error = error_of(response, 422)
    assert error["param"] == param
    assert said is not None
    assert said in error["message"]


def test_a_picture_of_too_many_pixels_is_not_decoded(server: Server) -> None:
    error = error_of(edit(server, Image.new("1", (5000, 5000))), 422)
    assert (error["param"], "must have 1 to 16777216 pixels" in error["message"]) == ("image", True)
    assert server.admission.images == 0


def test_a_mask_belongs_to_an_edit(server: Server, photo: Image.Image) -> None:
    error = error_of(post(server, VARIATIONS, {"image": file(photo), "mask": file(photo)}), 422)
    assert (error["param"], "there are image" in error["message"]) == ("mask", True)


def test_a_picture_turned_by_its_exif_is_drawn_upright(server: Server) -> None:
    lying = Image.new("RGB", (160, 80), "red")
    lying.paste("blue", (0, 0, 40, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file(lying, "JPEG", exif=exif, quality=95)
    assert post(server, EDITS, {"image": data}, prompt="a", size="64x128").status_code == 200
    _, source = only(server)
    top, bottom = source.pixels[0, 4, 32], source.pixels[0, 124, 32]
    assert top[2] > 200 > 60 > top[0]
    assert bottom[0] > 200 > 60 > bottom[2]


def test_only_so_many_forms_are_in_memory(server: Server, photo: Image.Image) -> None:
    goes_on = asyncio.Event()

    async def slow(order: Order) -> Any:
        await goes_on.wait()
        return await draw_at_once(order)

    async def several() -> list[int]:
        server.draw = slow
        form = {"files": {"image": file(photo)}, "data": {"prompt": "a"}}
        drawing = [asyncio.create_task(server.arequest("POST", EDITS, **form)) for _ in range(4)]
        while len(server.orders) < 4:
            await asyncio.sleep(0)
        # what is being drawn has let go of its form
        assert server.uploads.count == 0
        goes_on.set()
        return [(await one).status_code for one in drawing]

    assert asyncio.run(several()) == [200] * 4


def test_the_body_is_no_form(server: Server) -> None:
    response = server.request("POST", EDITS, content=b"{}", headers={"content-type": "application/json"})
    assert error_of(response, 415)["code"] == "unsupported_media_type"


def test_the_document_describes_the_forms(server: Server) -> None:
    document = server.request("GET", "/openapi.json").json()
    for path, model, files in (
        (EDITS, "EditBody", {"image", "mask", "depth"}),
        (VARIATIONS, "VariationBody", {"image"}),
    ):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        [reference, pictures] = content["multipart/form-data"]["schema"]["allOf"]
        assert reference["$ref"].endswith(model)
        assert pictures["properties"].keys() == files
        assert "strength" in document["components"]["schemas"][model]["properties"]


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_openais_client_edits(client: openai.OpenAI, server: Server, photo: Image.Image, mask: Image.Image) -> None:
    answer = client.images.edit(
        image=file(photo),
        mask=file(mask),
        prompt="a red apple",
        size="128x64",
        n=2,
        background="auto",
        input_fidelity="low",
        extra_body={"seed": 5, "strength": 0.9, "components": {}},
    )
    order, source = only(server)
    assert answer.data is not None
    assert len(answer.data) == 2
    assert (order.request.seed, order.request.strength, order.request.width) == (5, 0.9, 128)
    assert source.mask is not None


def test_openais_client_follows_an_edit(client: openai.OpenAI, photo: Image.Image) -> None:
    with client.images.edit(image=[file(photo)], prompt="a", stream=True, partial_images=2) as events:
        types = [event.type for event in events]
    assert types == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openais_client_varies(client: openai.OpenAI, photo: Image.Image) -> None:
    answer = client.images.create_variation(image=file(photo), n=2, response_format="b64_json")
    assert answer.data is not None
    assert len(answer.data) == 2


def test_openais_client_hears_what_is_wrong(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.images.edit(image=b"no picture", prompt="a")
    assert raised.value.param == "image"


def placed(photo: Image.Image) -> Image.Image:
    """White in a part of its middle."""
    mask = Image.new("L", photo.size)
    mask.paste(255, (40, 30, 60, 62))
    return mask


def test_what_lies_around_a_mask_is_drawn_in_the_whole_size_and_laid_back(server: Server, photo: Image.Image) -> None:
    answer = edit(server, photo, placed(photo), size="64x64", seed="200", mask_blur="0", padding_mask_crop="8")
    assert answer.status_code == 200, answer.text
    order, source = only(server)
    # 8 pixels around are 36 by 48, and in the proportions of the size 48 by 48
    crop = photo.crop((26, 22, 74, 70))
    np.testing.assert_array_equal(source.pixels[0], np.asarray(crop.resize((64, 64), Image.Resampling.LANCZOS)))
    assert (order.request.width, order.request.height, order.size) == (64, 64, photo.size)
    assert answer.json()["size"] == "96x96"
    shown = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    # the seed gives the colour
    expected = photo.copy()
    expected.paste((200, 200, 200), (40, 30, 60, 62))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))
    assert server.uploads.count == 0


def test_a_blurred_mask_is_soft_where_the_part_is_laid_back(server: Server) -> None:
    black = Image.new("RGB", (96, 96))
    answer = edit(server, black, placed(black), size="64x64", seed="200", mask_blur="4.5", padding_mask_crop="0")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))))[..., 0]
    soft = np.asarray(placed(black).filter(ImageFilter.GaussianBlur(4.5)), float)
    np.testing.assert_allclose(shown, soft / 255 * 200, atol=1.5)


def test_pictures_in_hand_are_bounded_while_they_are_laid_into(server: Server, photo: Image.Image) -> None:
    seen = []

    async def draw(order: Order) -> Any:
        seen.append(server.uploads.count)
        return await draw_at_once(order)

    server.draw = draw
    assert edit(server, photo, placed(photo), size="64x64").status_code == 200
    assert edit(server, photo, placed(photo), size="64x64", padding_mask_crop="8").status_code == 200
    assert seen == [0, 1]
    assert server.uploads.count == 0


@pytest.mark.parametrize(
    ("fields", "masked", "said"),
    [
        ({"mask_blur": "65"}, True, "mask_blur=65.0: must be a number between 0 and 64"),
        ({"mask_blur": "2"}, False, "mask_blur=2.0: must be 0 or left out without a mask"),
        ({"padding_mask_crop": "-1"}, True, "padding_mask_crop=-1: must be a whole number between 0 and 256"),
        ({"padding_mask_crop": "8"}, False, "padding_mask_crop=8: must be left out without a mask"),
        ({"hires": '{"scale": 2}'}, False, "hires: must be left out with an image"),
        ({"hires": "2"}, False, "hires='2': must be an object"),
    ],
    ids=str,
)
def test_fields_of_masks_are_refused_by_name(
    server: Server, photo: Image.Image, fields: dict[str, str], masked: bool, said: str
) -> None:
    error = error_of(edit(server, photo, placed(photo) if masked else None, **fields), 422)
    assert error["message"].startswith(said)
    assert not server.orders


def test_a_black_mask_leaves_no_part_to_draw(server: Server, photo: Image.Image) -> None:
    error = error_of(edit(server, photo, Image.new("L", photo.size), padding_mask_crop="8"), 422)
    assert (error["param"], error["message"].startswith("mask: leaves nothing to draw")) == ("mask", True)
    assert (server.uploads.count, server.admission.images) == (0, 0)

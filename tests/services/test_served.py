"""The whole path on a real local Ray cluster, started as `make run` does and asked over real sockets."""

import base64
import http.client
import io
import json
import math
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from prometheus_client.parser import text_string_to_metric_families

from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from services.encoding import METADATA_KEY
from services.ingress.http.body import MAX_PICTURES_BYTES
from services.metrics.catalogue import METRICS
from services.metrics.declared import PREFIX
from tests.k8s.series import FAMILIES, RAYS, TELEMETRY
from tests.services.cluster import comes_true
from tests.services.server import GENERATIONS, ROOT, Served, command, environment, serving, temporary_home

pytestmark = pytest.mark.slow

CANARY = "canary-5b21"
# what is counted only where something goes wrong or out of use
SELDOM = {
    "latentworks_refused",
    "latentworks_stage_failures",
    "latentworks_stage_abandoned",
    "latentworks_denoiser_evaluations_wasted",
    "latentworks_denoiser_refused",
    "latentworks_denoiser_cancelled",
    "latentworks_denoiser_split_runs",
    "latentworks_replicas_lost",
    "latentworks_given_up",
    "latentworks_held_requests",
    "latentworks_start_seconds",
    "latentworks_non_finite_images",
    "latentworks_shadow_decodes",
    "latentworks_latents_not_kept",
    "latentworks_latents_dropped",
    "latentworks_pictures_dropped",
    "latentworks_jobs_ended",
    "latentworks_jobs_dropped",
    "latentworks_webhooks",
    "latentworks_rollouts",
    "latentworks_canaries_rolled_back",
}
LONG: dict[str, Any] = {"prompt": "a boat", "steps": 150, "size": "1024x1024"}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="module")
def served(toy_bundle: Path, home: Path) -> Iterator[Served]:
    with serving(home, "bundle=toy", f"folder={toy_bundle}") as server:
        yield server


@pytest.fixture(scope="module")
def long_request(served: Served) -> dict[str, Any]:
    """A request that keeps this machine at work for some eight seconds, however fast it is."""
    begun = time.monotonic()
    assert served.generate(**LONG).status_code == 200
    return {**LONG, "n": min(10, math.ceil(8 / (time.monotonic() - begun)))}


@pytest.fixture(scope="module")
def in_process(toy_bundle: Path) -> TextToImage:
    return TextToImage.load(toy_bundle)


def test_every_deployment_is_ready(served: Served) -> None:
    stages = {"text_encoder", "denoiser", "vae_decoder", "vae_encoder"}
    every = dict.fromkeys({"rollout", "latents", "jobs", "graph", "ingress", *stages}, 1)
    # nobody has asked for any
    every |= {"third_text_encoder": 0, "adapter": 0, "image_encoder": 0}
    # it is ready as soon as pictures can be drawn
    assert comes_true(lambda: httpx.get(served.url + "/readyz").json()["replicas"] == every)


def test_a_picture_over_http_is_that_of_the_chain_in_one_process(served: Served, in_process: TextToImage) -> None:
    response = served.generate("image/png", prompt="a red apple", seed=3, steps=7, guidance=4, size="128x64")
    assert response.status_code == 200
    picture = Image.open(io.BytesIO(response.content))
    expected = in_process.generate("a red apple", seed=3, steps=7, guidance=4, width=128, height=64)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    metadata = json.loads(picture.info[METADATA_KEY])
    assert metadata["seed"] == 3
    pins = [
        f"{kind}={pin['name']}/{pin['version']};sha256={pin['sha256']}" for kind, pin in metadata["components"].items()
    ]
    assert response.headers["x-component-versions"] == ", ".join(pins)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "a (red:1.6) [apple] BREAK boat", "negative_prompt": "(blue) sky", "weighting": "a1111"},
        {"prompt": "a red++ (apple)0.6", "negative_prompt": "blue-- sky", "weighting": "compel"},
        {"prompt": "a red apple", "clip_skip": 2},
    ],
    ids=lambda asked: asked.get("weighting", "clip_skip"),
)
def test_weights_and_layers_over_http_are_those_of_the_chain_in_one_process(
    served: Served, in_process: TextToImage, asked: dict[str, Any]
) -> None:
    walk: dict[str, Any] = {"seed": 3, "steps": 7, "guidance": 4}
    response = served.generate("image/png", **asked, **walk)
    assert response.status_code == 200, response.text
    picture = Image.open(io.BytesIO(response.content))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(in_process.generate(**asked, **walk)))
    texts = {name: text for name, text in asked.items() if name not in ("weighting", "clip_skip")}
    plain = served.generate("image/png", **texts, **walk)
    assert (np.asarray(picture) != np.asarray(Image.open(io.BytesIO(plain.content)))).any(), "it changes nothing"
    # sent back as it was read, it is the same request
    told = httpx.post(f"{served.url}/v1/inspect", content=response.content, headers={"content-type": "image/png"})
    again = served.generate("image/png", **told.json()["request"])
    assert again.content == response.content


def test_texts_that_come_again_are_counted(served: Served) -> None:
    name, version = "latentworks_conditioning_cache_total", 'version="toy.text_encoder/1"'
    served.generate(prompt="a blue boat", negative_prompt="a blue boat", guidance=4, steps=1)
    assert served.metric_reaches(1, name, version, 'outcome="hit"')
    assert served.metric_reaches(1, name, version, 'outcome="miss"')
    assert served.metric_reaches(1, "latentworks_conditioning_cache_bytes")


def test_what_cannot_be_weighed_is_refused_by_its_field(served: Served) -> None:
    for field, asked in (
        ("negative_prompt", {"negative_prompt": "(x:2000)", "weighting": "a1111"}),
        ("weighting", {"weighting": "magic"}),
        ("clip_skip", {"clip_skip": 3}),
    ):
        response = served.generate(prompt="a", **asked)
        assert (response.status_code, response.json()["error"]["param"]) == (422, field)


def test_an_edit_over_http_is_that_of_the_chain_in_one_process(served: Served, toy_bundle: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (80, 160, 3), dtype=np.uint8))
    mask = Image.new("L", photo.size)
    mask.paste(255, (40, 0, 120, 60))
    files = {name: (name, as_png(picture), "image/png") for name, picture in (("image", photo), ("mask", mask))}
    whole = {"prompt": "a red apple", "seed": "3", "steps": "9", "strength": "0.6", "size": "128x64"}
    chain = ImageToImage.load(toy_bundle)
    asked: dict[str, Any] = {"seed": 3, "steps": 9, "strength": 0.6, "width": 128, "height": 64}

    for sent, masked in ((files, mask), ({"image": files["image"]}, None)):
        accept = {"accept": "image/png"}
        response = httpx.post(served.url + "/v1/images/edits", files=sent, data=whole, headers=accept, timeout=60)
        assert response.status_code == 200, response.text
        expected = chain.generate("a red apple", photo, masked, **asked)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(response.content))), np.asarray(expected))


@pytest.mark.parametrize("upscaler", ["latent_bicubic", "lanczos"])
def test_two_passes_over_http_are_those_of_the_chain_and_can_be_verified(
    served: Served, in_process: TextToImage, upscaler: str
) -> None:
    hires = {"scale": 2, "strength": 0.6, "upscaler": upscaler}
    asked: dict[str, Any] = {"seed": 3, "steps": 7, "guidance": 4, "hires": hires}
    response = served.generate("image/png", prompt="a red apple", size="64x80", **asked)
    assert response.status_code == 200, response.text
    picture = Image.open(io.BytesIO(response.content))
    expected = in_process.generate("a red apple", width=64, height=80, **asked)
    assert picture.size == (128, 160)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    assert verified(served, response.content)["equal"] is True


def test_a_part_of_a_picture_over_http_is_that_of_the_chain_and_can_be_verified(
    served: Served, toy_bundle: Path
) -> None:
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (80, 160, 3), dtype=np.uint8))
    mask = Image.new("L", photo.size)
    mask.paste(255, (60, 20, 100, 60))
    fields = {"prompt": "a red apple", "seed": "3", "steps": "9", "size": "64x64"}
    part: dict[str, Any] = {"mask_blur": 3, "padding_mask_crop": 8}
    made = httpx.post(
        served.url + "/v1/images/edits",
        files={"image": as_png(photo), "mask": as_png(mask)},
        data={**fields, **{name: str(value) for name, value in part.items()}},
        headers={"accept": "image/png"},
        timeout=60,
    )
    assert made.status_code == 200, made.text
    chain = ImageToImage.load(toy_bundle)
    expected = chain.generate("a red apple", photo, mask, seed=3, steps=9, width=64, height=64, **part)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(made.content))), np.asarray(expected))
    assert verified(served, made.content, source=as_png(photo), mask=as_png(mask))["equal"] is True


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_picture_is_what_its_story_makes(served: Served, form: str) -> None:
    body = {"prompt": "a red apple", "seed": 3, "steps": 9, "guidance": 4, "size": "128x64", "sampler": "dpmpp_2m"}
    made = served.generate(f"image/{form}", **body)
    assert made.status_code == 200, made.text
    said = verified(served, made.content)
    assert (said["equal"], said["largest_difference"], said["differing_pixels"]) == (True, 0, 0)
    assert {one["present"]["name"] for one in said["components"]} == {
        "toy.text_encoder",
        "toy.denoiser",
        "toy.vae_decoder",
    }


def test_one_byte_of_a_story_makes_another_picture(served: Served) -> None:
    made = served.generate("image/png", prompt="a red apple", seed=3, steps=9, guidance=4).content
    said = verified(served, with_story(made, '"seed": 3', '"seed": 4'))
    assert said["equal"] is False
    assert said["differing_pixels"] > 0
    digest = json.loads(Image.open(io.BytesIO(made)).info[METADATA_KEY])["components"]["denoiser"]["sha256"]
    refused = verify(served, with_story(made, digest, "0" * 64))
    assert refused.status_code == 422
    assert f"toy.denoiser/1 has the sha256 {digest} here, not {'0' * 64}" in refused.json()["error"]["message"]


def test_an_edit_is_verified_with_its_source(served: Served) -> None:
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (80, 160, 3), dtype=np.uint8))
    mask = Image.new("L", photo.size)
    mask.paste(255, (40, 0, 120, 60))
    sent = {"image": as_png(photo), "mask": as_png(mask)}
    asked = {"prompt": "a red apple", "seed": "3", "steps": "9", "strength": "0.6", "size": "128x64"}
    made = httpx.post(
        served.url + "/v1/images/edits", files=sent, data=asked, headers={"accept": "image/png"}, timeout=60
    )
    assert made.status_code == 200, made.text
    assert verified(served, made.content, source=as_png(photo), mask=as_png(mask))["equal"] is True
    missing = verify(served, made.content, source=as_png(photo))
    assert (missing.status_code, missing.json()["error"]["param"]) == (422, "mask")


def verify(served: Served, image: bytes, **files: bytes) -> httpx.Response:
    parts = {name: (f"{name}.png", data) for name, data in {"image": image, **files}.items()}
    return httpx.post(served.url + "/v1/verify", files=parts, timeout=60)


def verified(served: Served, image: bytes, **files: bytes) -> dict[str, Any]:
    response = verify(served, image, **files)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    return said


def with_story(data: bytes, before: str, after: str) -> bytes:
    """A PNG file of the same pixels, with one part of its story replaced."""
    picture, texts, out = Image.open(io.BytesIO(data)), PngInfo(), io.BytesIO()
    assert picture.info[METADATA_KEY].count(before) == 1
    texts.add_text(METADATA_KEY, picture.info[METADATA_KEY].replace(before, after))
    picture.save(out, "PNG", pnginfo=texts)
    return out.getvalue()


def as_png(picture: Image.Image) -> bytes:
    """A picture's file."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_the_official_sdk_generates_a_picture(served: Served) -> None:
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
    answer = client.images.generate(
        model="toy", prompt="a blue boat", n=2, output_format="webp", extra_body={"seed": 5}
    )
    assert answer.data is not None
    pictures = [Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))) for one in answer.data]
    assert [(one.format, one.size) for one in pictures] == [("WEBP", (64, 64))] * 2
    assert [model.id for model in client.models.list()] == ["toy"]
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(model="dall-e-3", prompt="a blue boat")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    client.close()


def test_the_official_sdk_follows_a_stream_and_opens_a_link(served: Served, in_process: TextToImage) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        asked: dict[str, Any] = {"prompt": "a red apple", "extra_body": {"seed": 3, "steps": 8, "guidance": 4}}
        raw = client.images.with_raw_response.generate(**asked, stream=True, partial_images=3)
        assert re.fullmatch(r"[0-9a-f-]{36}", raw.headers["x-request-id"])
        assert (raw.headers["x-seed"], raw.headers["content-type"].split(";")[0]) == ("3", "text/event-stream")
        events = list(raw.parse())
        linked = client.images.generate(**asked, response_format="url")
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [event.type for event in events] == [partial] * 3 + [completed]
    pictures = [Image.open(io.BytesIO(base64.b64decode(event.b64_json))) for event in events]
    assert {picture.size for picture in pictures} == {(64, 64)}
    expected = np.asarray(in_process.generate("a red apple", seed=3, steps=8, guidance=4))
    np.testing.assert_array_equal(np.asarray(pictures[-1]), expected)
    assert (events[-1].usage.input_tokens, events[-1].usage.output_tokens) == (3, 64)
    assert linked.data is not None
    link = linked.data[0].url
    assert link is not None
    assert link.startswith(served.url)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(httpx.get(link).content))), expected)
    forged = httpx.get(link[:-1])
    assert (forged.status_code, forged.json()["error"]["code"]) == (403, "invalid_signature")
    assert re.fullmatch(r"[0-9a-f-]{36}", forged.headers["x-request-id"])


@pytest.mark.parametrize("noise", [{}, {"rng": "philox"}, {"subseed": 7, "subseed_strength": 0.5}])
def test_image_k_of_n_is_the_picture_of_its_seeds_alone(served: Served, noise: dict[str, Any]) -> None:
    body = {"prompt": "a red apple", "steps": 5, "seed": 11, **noise}
    together = served.generate(**body, n=3).json()["data"]
    seeds = [(11, 7), (11, 8), (11, 9)] if "subseed" in noise else [(11, None), (12, None), (13, None)]
    assert [(one["seed"], one["subseed"]) for one in together] == seeds
    alone = [served.generate(**{**body, "seed": seed, "subseed": subseed}).json()["data"][0] for seed, subseed in seeds]
    for one in (*together, *alone):
        times = one.pop("timings")
        # the encoders work side by side, the rest one after the other
        assert 0 < sum(seconds for name, seconds in times.items() if seconds and name != "total_s") <= times["total_s"]
    assert together == alone
    assert len({one["b64_json"] for one in together}) == 3


def test_overlapping_requests_give_the_bytes_of_single_ones(served: Served) -> None:
    bodies = [{"prompt": "a red apple", "seed": seed, "steps": 5 + seed % 3} for seed in range(12)]
    alone = [served.generate("image/png", **body).content for body in bodies]
    with ThreadPoolExecutor(12) as clients:
        overlapping = list(clients.map(lambda body: served.generate("image/png", **body).content, bodies))
    assert overlapping == alone
    assert len(set(alone)) == 12


def test_a_truncated_prompt_is_told_and_counted(served: Served) -> None:
    answer = served.generate(prompt="red " * 20).json()
    assert (answer["prompt_truncated"], answer["negative_prompt_truncated"]) == (True, False)
    assert served.metric_reaches(1, "latentworks_truncated_prompts_total", 'field="prompt"')


def test_metrics_come_from_the_denoisers_process(served: Served) -> None:
    name, label = "latentworks_denoiser_evaluations_total", 'version="toy.denoiser/1"'
    served.generate(prompt="a red apple", steps=2)
    assert served.metric_reaches(1, name, label)
    time.sleep(3)  # until everything counted so far has arrived
    before = served.metric(name, label)
    served.generate(prompt="a red apple", steps=9)
    assert served.metric_reaches(before + 9, name, label)
    assert served.metric(name, label) == before + 9
    for stage in ("text_encoder", "denoiser", "vae_decoder"):
        assert served.metric_reaches(1, "latentworks_stage_seconds_count", f'stage="{stage}"')
    assert served.metric_reaches(1, "latentworks_requests_total", f'route="{GENERATIONS}"', 'status="200"')


def test_the_metrics_page_says_what_the_catalogue_says(served: Served) -> None:
    served.generate(prompt="a red apple", steps=2)
    served.generate(prompt="red " * 20, steps=1, response_format="url")
    here = (
        "latentworks_denoiser_admitted_total",
        "latentworks_sent_bytes_total",
        "latentworks_truncated_prompts_total",
    )
    assert all(served.metric_reaches(1, name) for name in here)
    assert served.metric_reaches(1, "latentworks_live_version", 'version="toy.vae_decoder/1"')
    assert served.metric_reaches(1, "serve_request_router_fulfillment_time_ms_count", 'deployment="vae_decoder"')
    assert served.metric_reaches(1, "serve_deployment_replica_healthy", 'deployment="vae_decoder"')
    assert served.metric_reaches(1, "serve_deployment_replica_starts_total", 'deployment="vae_decoder"')
    # Ray drops a gauge that nobody sets anew after this long, and most were set at the start alone
    time.sleep(5)
    page = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{served.url}/metrics").text)}
    told = {name.removesuffix("_total"): FAMILIES[name] for name in FAMILIES}
    ours = {name for name in page if name.startswith(f"{PREFIX}latentworks_")}
    assert ours - told.keys() == set()
    for name in page.keys() & told.keys():
        family = told[name]
        assert page[name].type == family.kind
        for sample in page[name].samples:
            labels = sample.labels.keys() - ({"le"} if sample.name.endswith("_bucket") else set())
            assert labels == RAYS | TELEMETRY | family.labels.keys(), name
            for label, values in family.labels.items():
                assert not values or sample.labels[label] in values, name
    usual_names = {name.removesuffix("_total") for name in METRICS} - SELDOM
    assert {f"{PREFIX}{name}" for name in usual_names} - ours == set()
    phases = {
        (sample.labels["stage"], sample.labels["phase"])
        for sample in page[f"{PREFIX}latentworks_phase_seconds"].samples
    }
    usual = {
        (stage, phase) for stage in ("text_encoder", "denoiser", "vae_decoder") for phase in ("queue", "load", "run")
    }
    assert usual | {("vae_decoder", "transfer"), ("vae_encoder", "load")} <= phases


def test_bad_requests_are_answered_and_the_next_one_works(served: Served) -> None:
    def status(body: bytes, content_type: str = "application/json") -> int:
        headers = {"content-type": content_type}
        response = httpx.post(served.url + GENERATIONS, content=body, headers=headers, timeout=60)
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
        return response.status_code

    assert status(b'{"prompt": "\xff"}') == 400
    assert status(b'{"prompt": "a", "guidance": NaN}') == 400
    assert status(b"[" * 500_000) == 400
    assert status(b'{"prompt": "a", "size": "8192x8192"}') == 422
    assert status(b'{"prompt": "a", "colour": "red"}') == 422
    assert status(b'{"prompt": "a", "\\ud800": 1}') == 422
    assert status(b'{"prompt": "a"}', "text/plain") == 415
    assert status(json.dumps({"prompt": "x" * 10**6}).encode()) == 422
    assert status(b" " * (MAX_PICTURES_BYTES + 1)) == 413
    assert httpx.get(served.url + "/nothing").json()["error"]["code"] == "not_found"
    assert served.generate(prompt="a red apple").status_code == 200


def test_the_request_id_comes_back_once(served: Served) -> None:
    given = httpx.get(served.url + "/healthz", headers={"x-request-id": "mine-1"})
    assert given.headers.get_list("x-request-id") == ["mine-1"]
    assert re.fullmatch(r"[0-9a-f-]{36}", httpx.get(served.url + "/healthz").headers["x-request-id"])


def test_a_client_that_goes_away_stops_the_walk(served: Served, long_request: dict[str, Any]) -> None:
    abandoned = "latentworks_stage_abandoned_total"
    before = served.metric(abandoned, 'stage="denoiser"')
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"))
    connection.request("POST", GENERATIONS, json.dumps(long_request), {"content-type": "application/json"})
    time.sleep(1)
    connection.close()
    assert served.metric_reaches(before + 1, abandoned, 'stage="denoiser"')


def test_a_client_that_leaves_a_stream_stops_the_walk(served: Served, long_request: dict[str, Any]) -> None:
    abandoned = "latentworks_stage_abandoned_total"
    before = served.metric(abandoned, 'stage="denoiser"')
    body = {**long_request, "stream": True, "progress": True}
    with httpx.stream("POST", served.url + GENERATIONS, json=body, timeout=60) as response:
        # its place in the queue may come before
        assert "event: image_generation.progress" in response.iter_lines()
    assert served.metric_reaches(before + 1, abandoned, 'stage="denoiser"')


def test_a_client_that_goes_away_while_it_sends_is_no_failure_of_ours(served: Served) -> None:
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"))
    connection.putrequest("POST", GENERATIONS)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", "100")
    connection.endheaders(b'{"prompt"')
    time.sleep(1)
    connection.close()
    # that one, and the two before it
    assert served.metric_reaches(3, "latentworks_requests_total", f'route="{GENERATIONS}"', 'status="499"')
    for status in ("500", "503"):
        assert served.metric("latentworks_requests_total", f'status="{status}"') == 0


def test_prompts_reach_no_log_and_no_metric(served: Served) -> None:
    assert served.generate(prompt=f"a {CANARY}", negative_prompt=CANARY, user=CANARY).status_code == 200
    assert served.generate(prompt=CANARY, negative_prompt=CANARY, n=0).status_code == 422
    assert httpx.get(f"{served.url}/{CANARY}").status_code == 404
    time.sleep(2)
    logs = [file for file in served.logs.rglob("*") if file.is_file() and "logs" in file.parts]
    assert len(logs) > 10
    assert [file.name for file in logs if CANARY.encode() in file.read_bytes()] == []
    assert CANARY not in httpx.get(served.url + "/metrics", timeout=30).text
    assert CANARY not in served.output.read_text()


def test_a_busy_port_is_said_in_one_sentence(served: Served, toy_bundle: Path, home: Path) -> None:
    port = served.url.rsplit(":", 1)[1]
    arguments = command("bundle=toy", f"folder={toy_bundle}", "--port", port)
    ended = subprocess.run(arguments, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == f"Error: 127.0.0.1:{port} cannot be listened on: Address already in use\n"


def test_sigterm_lets_requests_finish_and_ends_cleanly(served: Served, long_request: dict[str, Any]) -> None:
    """The last test of this server."""
    with ThreadPoolExecutor(1) as client:
        long = client.submit(served.generate, **long_request)
        time.sleep(1.5)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert not long.done(), "the request was too short to be under way"
        assert httpx.get(served.url + "/readyz").status_code == 503
        refused = served.generate(prompt="a")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert long.result().status_code == 200
    assert served.process.wait(timeout=60) == 0
    printed = served.output.read_text()
    assert printed.splitlines()[-1] == "Stopped."
    assert len(printed.splitlines()) == 4
    assert "Traceback" not in printed

"""Kept latents, pictures that are none and shadow decodes on a real local cluster."""

import asyncio
import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from components.contract import Kind
from components.folder import read_manifest, record_files, write_manifest
from components.manifest import MANIFEST_NAME
from components.reference import ComponentRef
from registry.registry import Registry
from registry.settings import RegistrySettings
from services.encoding import METADATA_KEY
from services.errors import NonFiniteImageError
from services.messages import Drawn
from tests.bad_components import add_golden_cases
from tests.services.cluster import MOST_SECONDS, Application, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BODY: dict[str, Any] = {"prompt": "a red apple", "steps": 3, "seed": 11, "user": "me", "store_latents": True}
CANARY = "canary-30fc"
BLOCK = 4096


@pytest.fixture(scope="module")
def one(cluster: Cluster, toy_bundle: Path) -> Iterator[Application]:
    stages = {"vae_decoder": {"replicas": 1}, "graph": {"replicas": 2}}
    with cluster.deployed("latents", "toy", toy_bundle, **stages) as application:
        yield application


def published(cluster: Cluster, bundle: Path, place: Path, factor: float) -> ComponentRef:
    """Another version of the VAE decoder, its weights `factor` times the bundle's."""
    shutil.copytree(bundle / "vae_decoder", place)
    manifest = read_manifest(place)
    (place / MANIFEST_NAME).unlink()
    model = onnx.load(place / "model.onnx")
    [up] = model.graph.initializer
    up.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(up) * np.float32(factor), up.name))
    onnx.save(model, place / "model.onnx")
    write_manifest(place, manifest.model_copy(update={"files": record_files(place)}))
    if np.isfinite(factor):
        add_golden_cases(place)
    registry = Registry.connect(RegistrySettings(home=cluster.home / "registry-latents"))
    ref = registry.publish(place, "toy.vae_decoder")
    if np.isfinite(factor):
        # what an alias points at is tried, and may be asked for by requests once it has passed
        registry.promote(ref.name, ref.version, "candidate")
    return ref


@pytest.fixture(scope="module")
def other(
    one: Application, cluster: Cluster, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> ComponentRef:
    ref = published(cluster, toy_bundle, tmp_path_factory.mktemp("other") / "vae_decoder", 0.98)
    id_, _ = kept(one)
    deadline = time.monotonic() + MOST_SECONDS
    while (response := decode(one, id_, components={"vae_decoder": f"{ref.name}@candidate"})).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.5)
    return ref


@pytest.fixture(scope="module")
def broken(cluster: Cluster, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> ComponentRef:
    return published(cluster, toy_bundle, tmp_path_factory.mktemp("broken") / "vae_decoder", np.nan)


def generate(application: Application, **body: Any) -> httpx.Response:
    return httpx.post(f"{application.url}/v1/images/generations", json={**BODY, **body}, timeout=MOST_SECONDS)


def decode(application: Application, id_: str, accept: str = "image/png", **body: Any) -> httpx.Response:
    url = f"{application.url}/v1/latents/{id_}/decode"
    return httpx.post(url, json={"user": "me", **body}, headers={"accept": accept}, timeout=MOST_SECONDS)


def compare(application: Application, id_: str, components: str, accept: str = "image/png") -> httpx.Response:
    url = f"{application.url}/v1/latents/{id_}/compare"
    query = {"components": components, "user": "me"}
    return httpx.get(url, params=query, headers={"accept": accept}, timeout=MOST_SECONDS)


def kept(application: Application, **body: Any) -> tuple[str, bytes]:
    [one] = generate(application, **body).json()["data"]
    assert one["latents"] is not None
    return one["latents"], base64.b64decode(one["b64_json"])


def same(data: bytes, picture: bytes) -> bool:
    """Whether a file holds a picture's pixels and its story, but for the texts, which are not kept."""
    a, b = (Image.open(io.BytesIO(one)) for one in (data, picture))
    told = {**json.loads(b.info[METADATA_KEY]), "prompt": None, "negative_prompt": None}
    return a.tobytes() == b.tobytes() and json.loads(a.info[METADATA_KEY]) == told


def test_the_version_of_then_gives_the_picture_of_then(one: Application) -> None:
    id_, picture = kept(one)
    again = decode(one, id_)
    assert again.status_code == 200
    assert same(again.content, picture)
    assert json.loads(Image.open(io.BytesIO(picture)).info[METADATA_KEY])["fallback_for"] is None
    named = decode(one, id_, "*/*", components={"vae_decoder": "toy.vae_decoder/1"}).json()
    assert base64.b64decode(named["data"][0]["b64_json"]) == again.content
    answer = generate(one, n=3).json()
    ids = [one["latents"] for one in answer["data"]]
    assert len(set(ids)) == 3
    for id_, drawn in zip(ids, answer["data"], strict=True):
        assert same(decode(one, id_).content, base64.b64decode(drawn["b64_json"]))
    assert generate(one, store_latents=False).json()["data"][0]["latents"] is None


def test_a_version_equals_itself(one: Application) -> None:
    id_, _ = kept(one)
    response = compare(one, id_, "toy.vae_decoder/1,toy.vae_decoder/1")
    assert response.status_code == 200, response.text
    assert (response.headers["x-psnr-db"], response.headers["x-max-difference"]) == ("inf", "0")
    said = json.loads(Image.open(io.BytesIO(response.content)).info[METADATA_KEY])
    assert [pin["version"] for pin in said["compared"]["vae_decoders"]] == [1, 1]
    answer = compare(one, id_, "toy.vae_decoder/1,toy.vae_decoder/1", "application/json").json()
    assert (answer["identical"], answer["psnr_db"]) == (True, None)


def test_another_version_is_compared_with_it(one: Application, other: ComponentRef) -> None:
    id_, picture = kept(one)
    response = compare(one, id_, f"toy.vae_decoder/1,{other}")
    assert response.status_code == 200, response.text
    answer = compare(one, id_, f"toy.vae_decoder/1,{other}", "application/json").json()
    first, second = (np.asarray(Image.open(io.BytesIO(base64.b64decode(one["b64_json"])))) for one in answer["data"])
    np.testing.assert_array_equal(first, np.asarray(Image.open(io.BytesIO(picture))))
    squared = np.mean((first.astype(float) - second.astype(float)) ** 2)
    assert answer["psnr_db"] == pytest.approx(10 * np.log10(255**2 / squared))
    assert response.headers["x-psnr-db"] == f"{answer['psnr_db']:.2f}"
    decoded = decode(one, id_, components={"vae_decoder": str(other)})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded.content))), second)


def test_only_who_had_them_made_may_have_them(one: Application) -> None:
    id_, _ = kept(one, user=CANARY)
    assert decode(one, id_, user=CANARY).status_code == 200
    for user in ("you", None):
        response = decode(one, id_, user=user)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "latents_not_found")
    assert decode(one, "x" * 30).status_code == 404


def test_they_outlive_their_replica(one: Application) -> None:
    id_, picture = kept(one)
    killed = one.kill("latents")
    assert one.heals("latents", 1, killed)
    assert same(decode(one, id_).content, picture)


def test_they_end(cluster: Cluster, toy_bundle: Path) -> None:
    folder = cluster.home / "short"
    short = cluster.deploy("short", "toy", toy_bundle, latents={"store": str(folder), "keep_s": 3})
    id_, _ = kept(short)
    assert len(list(folder.iterdir())) == 1
    while decode(short, id_).status_code != 404:
        time.sleep(0.2)
    while list(folder.iterdir()):
        time.sleep(0.5)
    cluster.remove(short)


def test_they_are_bounded(cluster: Cluster, toy_bundle: Path) -> None:
    folder = cluster.home / "small"
    small = cluster.deploy("small", "toy", toy_bundle, latents={"store": str(folder), "most_bytes": 6 * BLOCK})
    ids = [kept(small, seed=seed)[0] for seed in range(5)]
    # latents of 1 KiB and what made them, in two blocks of the disk
    assert [decode(small, id_).status_code for id_ in ids] == [404] * 2 + [200] * 3
    assert sorted(file.stem for file in folder.iterdir()) == sorted(ids[2:])
    cluster.remove(small)
    none = cluster.deploy("none", "toy", toy_bundle, latents={"store": str(folder), "most_bytes": 0})
    response = generate(none)
    assert response.status_code == 200
    assert response.json()["data"][0]["latents"] is None
    assert none.metric_reaches(1, "latentworks_latents_not_kept_total")
    cluster.remove(none)


@pytest.mark.usefixtures("other")
def test_a_picture_that_is_none_is_decoded_by_the_fallback(one: Application, broken: ComponentRef) -> None:
    request = one.request(prompt="a red apple", steps=2, n=2)
    live = one.live.pins[Kind.VAE_DECODER]
    order = replace(one.order(request), pins={**one.live.pins, Kind.VAE_DECODER: broken})

    async def draw(order: Any) -> Drawn:
        drawn: Drawn = await one.handle("graph").draw.remote(order)
        return drawn

    before = one.replicas("vae_decoder")
    expected = asyncio.run(draw(one.order(request)))
    drawn = asyncio.run(draw(replace(order, fallback=live)))
    for made, usual in zip(drawn.pictures, expected.pictures, strict=True):
        assert (made.decoder, usual.decoder) == (live, live)
        pictures = [Image.open(io.BytesIO(one.data)) for one in (made, usual)]
        np.testing.assert_array_equal(np.asarray(pictures[0]), np.asarray(pictures[1]))
        assert json.loads(pictures[0].info[METADATA_KEY])["fallback_for"] == broken.model_dump()
    for fallback in (None, broken):
        with pytest.raises(NonFiniteImageError, match=f"{broken} gave pixels that are not finite"):
            asyncio.run(draw(replace(order, fallback=fallback)))
    gone = ComponentRef(name="toy.vae_decoder", version=99, sha256="0" * 64)
    with pytest.raises(NonFiniteImageError, match="toy.vae_decoder/99 could not decode it again"):
        asyncio.run(draw(replace(order, fallback=gone)))
    assert one.metric_reaches(5, "latentworks_non_finite_images_total", 'stage="vae_decoder"', f'version="{broken}"')
    # more of them than faults make a replica suspect, and none was one
    assert one.metric("latentworks_stage_failures_total", f'version="{broken}"') == 0
    assert one.replicas("vae_decoder") == before


def test_a_shadow_follows_the_answer(one: Application, other: ComponentRef, broken: ComponentRef) -> None:
    async def draw(order: Any) -> Drawn:
        drawn: Drawn = await one.handle("graph").draw.remote(order)
        return drawn

    request = one.request(prompt="a red apple", steps=2)
    plain = asyncio.run(draw(one.order(request)))
    for candidate, outcome in ((other, "compared"), (broken, "no_picture")):
        shadowed = asyncio.run(draw(replace(one.order(request), shadow=candidate)))
        assert [picture.data for picture in shadowed.pictures] == [picture.data for picture in plain.pictures]
        labels = (f'version="{candidate}"', f'outcome="{outcome}"')
        assert one.metric_reaches(1, "latentworks_shadow_decodes_total", *labels)


def test_users_and_ids_reach_no_log(cluster: Cluster, one: Application) -> None:
    id_, _ = kept(one, user=CANARY)
    assert decode(one, id_, user=CANARY).status_code == 200
    url = f"{one.url}/v1/latents/{id_}/compare"
    query = {"components": "toy.vae_decoder/1,toy.vae_decoder/1", "user": CANARY}
    assert httpx.get(url, params=query, timeout=MOST_SECONDS).status_code == 200
    time.sleep(2)
    logs = [file for file in (cluster.home / "ray").rglob("*") if file.is_file() and "logs" in file.parts]
    assert len(logs) > 10
    for secret in (CANARY.encode(), id_.encode()):
        assert [file.name for file in logs if secret in file.read_bytes()] == []

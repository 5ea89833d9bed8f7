"""The client and its command line against a graph on a real local Ray cluster."""

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.text_to_image import TextToImage
from services.client.blocking import Client
from services.client.errors import ServerRefused
from services.client.events import Finished, Preview, Step
from tests.services.client.conftest import run
from tests.services.cluster import Application, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def one(cluster: Cluster, toy_bundle: Path) -> Iterator[Application]:
    with cluster.deployed("client", "toy", toy_bundle) as application:
        yield application


@pytest.fixture
def client(one: Application) -> Iterator[Client]:
    with Client(one.url) as made:
        yield made


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_picture_is_that_of_the_same_chain_in_one_process(client: Client, toy_bundle: Path) -> None:
    drawing = client.generate("a red apple", seed=3, steps=4, guidance=2.0)
    expected = TextToImage.load(toy_bundle).generate("a red apple", seed=3, steps=4, guidance=2.0)
    np.testing.assert_array_equal(pixels(drawing.pictures[0].data), np.asarray(expected))
    assert drawing.request_id


def test_a_stream_and_kept_latents(client: Client) -> None:
    told = list(client.stream("a red apple", previews=2, seed=3, steps=6, store_latents=True, user="me"))
    assert {type(one) for one in told} == {Step, Preview, Finished}
    finished = told[-1]
    assert isinstance(finished, Finished)
    assert finished.picture.latents is not None
    again = client.decode(finished.picture.latents, user="me")
    np.testing.assert_array_equal(pixels(again.pictures[0].data), pixels(finished.picture.data))
    compared = client.compare(finished.picture.latents, "toy.vae_decoder/1", "toy.vae_decoder/1", user="me")
    assert compared.identical
    with pytest.raises(ServerRefused) as caught:
        client.decode(finished.picture.latents, user="another")
    assert (caught.value.code, bool(caught.value.request_id)) == ("latents_not_found", True)


def test_a_stream_that_is_left_ends_the_walk(one: Application, client: Client) -> None:
    cancelled = "latentworks_denoiser_cancelled_total"
    before = one.metric(cancelled)
    with closing(client.stream("a boat", steps=150, size="1024x1024")) as told:
        assert isinstance(next(told), Step)
    assert one.metric_reaches(before + 1, cancelled, 'reason="caller_left"')


def test_what_the_server_is_and_serves(client: Client) -> None:
    assert [one.id for one in client.models()] == ["toy"]
    assert client.ready().replicas["denoiser"] >= 1
    assert "toy.vae_decoder/1" in map(str, client.rollout().live)


def test_the_command_line(one: Application, tmp_path: Path) -> None:
    out = tmp_path / "apple.webp"
    done = run("draw", "a red apple", "--out", str(out), "--seed", "3", "--steps", "4", "--url", one.url)
    assert (done.returncode, done.stdout) == (0, f"{out}: seed 3\n"), done.stderr
    told = json.loads(run("inspect", str(out), "--json", "--url", one.url).stdout)
    assert (told["source"], told["request"]["steps"]) == ("latentworks", 4)
    file = tmp_path / "requests.jsonl"
    file.write_text('{"prompt": "a", "steps": 2}\n{"prompt": "b", "steps": 2, "n": 2}\n')
    asked = ("batch", str(file), "--out", str(tmp_path / "drawn"), "--json", "--url", one.url)
    assert json.loads(run(*asked).stdout)["drawn"] == 2
    assert json.loads(run(*asked, "--resume").stdout) == {"drawn": 0, "before": 2, "failed": []}

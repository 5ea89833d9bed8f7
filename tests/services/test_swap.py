"""Versions that change under load, on a real cluster and a real registry: nothing fails, nothing is mixed."""

import asyncio
import itertools
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.mlflow_server import mlflow_server
from components.contract import Kind
from components.errors import ComponentError
from components.folder import read_manifest, record_files, write_manifest
from components.manifest import GoldenCase
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.registry import Registry
from registry.rollout import steps
from registry.rollout.state import Canary, Shadow
from registry.settings import RegistrySettings
from services.messages import LiveRecord
from tests.bad_components import BAD, other_weights
from tests.services.cluster import Application, Cluster, comes_true

pytestmark = pytest.mark.slow

NAME = "toy.vae_decoder"
GENERATIONS = "/v1/images/generations"
HASTY = GateSettings(time_s=20)


@dataclass
class Swapped:
    """A served bundle, its registry, and what each version of its decoder makes of each seed."""

    application: Application
    registry: Registry
    expected: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def live(self) -> str:
        return self.generate(seed=1).headers["x-component-versions"]

    def generate(self, **body: Any) -> httpx.Response:
        return self.application.generate(**{"prompt": "a red apple", "steps": 2, **body})

    def publish(self, path: Path, name: str = NAME) -> ComponentRef:
        return self.registry.publish(path, name)

    def aliases(self) -> set[str]:
        """Those of the decoder that the server knows of."""
        record: LiveRecord = self.application.handle("rollout").record.remote().result()
        return set(record.aliases.get(NAME, {}))

    def status(self) -> Any:
        return httpx.get(f"{self.application.url}/v1/rollout", timeout=30).json()


def decoder_in(header: str) -> str:
    found = re.search(r"vae_decoder=([^;]+);sha256=[0-9a-f]{64}", header)
    assert found is not None, header
    return found[1]


def in_use(swapped: Swapped) -> ComponentRef:
    name, version = decoder_in(swapped.live()).split("/")
    return swapped.registry.version(name, int(version)).ref


@pytest.fixture(scope="module")
def swapped(cluster: Cluster, toy: Path) -> Iterator[Swapped]:
    settings = RegistrySettings(home=cluster.home / "swapped")
    stages = {"vae_decoder": {"replicas": 2}, "graph": {"shadows": 20}, "rollout": {"poll_s": 0.2, "prepare_s": 60.0}}
    with cluster.deployed("swapped", "toy", toy, registry={"home": settings.home}, **stages) as application:
        yield Swapped(application, Registry.connect(settings))


@pytest.fixture(scope="module")
def second(swapped: Swapped, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> ComponentRef:
    """A sound decoder whose pictures differ a little."""
    ref = swapped.publish(other_weights(toy / "vae_decoder", tmp_path_factory.mktemp("second") / "b", scale=0.97))
    steps.point(swapped.registry, [ref], "candidate", HASTY)
    return ref


async def draws(swapped: Swapped, stop: asyncio.Event, seeds: Sequence[int]) -> list[tuple[int, str, bytes]]:
    """Requests one after the other until `stop`; a failed one ends the test."""
    made = []
    async with httpx.AsyncClient(timeout=120) as client:
        for seed in itertools.cycle(seeds):
            body = {"prompt": "a red apple", "steps": 2, "seed": seed}
            answer = await client.post(
                swapped.application.url + GENERATIONS, json=body, headers={"accept": "image/png"}
            )
            assert answer.status_code == 200, answer.text
            made.append((seed, decoder_in(answer.headers["x-component-versions"]), answer.content))
            if stop.is_set():
                return made
    return made


def test_versions_swap_under_load_without_a_failure_or_a_mixture(swapped: Swapped, second: ComponentRef) -> None:
    first = in_use(swapped)
    seeds = range(4)
    expected = {
        (seed, str(ref)): swapped.generate(seed=seed, components={"vae_decoder": str(ref)}).content
        for ref in (first,)
        for seed in seeds
    }

    async def under_load() -> list[tuple[int, str, bytes]]:
        stop = asyncio.Event()
        clients = [asyncio.create_task(draws(swapped, stop, seeds)) for _ in range(4)]
        for round_ in range(4):
            await asyncio.sleep(0.5)
            chosen = second if round_ % 2 == 0 else first
            await asyncio.to_thread(steps.promote, swapped.registry, [chosen], HASTY)
            # what is admitted from now on has the new version
            answer = await asyncio.to_thread(swapped.generate, seed=0)
            assert decoder_in(answer.headers["x-component-versions"]) == str(chosen)
        stop.set()
        return [one for made in await asyncio.gather(*clients) for one in made]

    made = asyncio.run(under_load())
    for seed in seeds:
        expected[seed, str(second)] = swapped.generate(seed=seed, components={"vae_decoder": str(second)}).content
        assert expected[seed, str(first)] != expected[seed, str(second)]
    assert {version for _, version, _ in made} == {str(first), str(second)}
    assert all(content == expected[seed, version] for seed, version, content in made)
    assert in_use(swapped) == first


def test_a_decoder_killed_during_a_promotion_loses_nothing(swapped: Swapped, second: ComponentRef) -> None:
    first = in_use(swapped)

    async def under_load() -> list[tuple[int, str, bytes]]:
        stop = asyncio.Event()
        clients = [asyncio.create_task(draws(swapped, stop, range(4))) for _ in range(4)]
        await asyncio.sleep(0.3)
        killed = swapped.application.kill("vae_decoder")
        await asyncio.to_thread(steps.promote, swapped.registry, [second], HASTY)
        assert await asyncio.to_thread(swapped.application.heals, "vae_decoder", 2, killed)
        stop.set()
        return [one for made in await asyncio.gather(*clients) for one in made]

    made = asyncio.run(under_load())
    assert {version for _, version, _ in made} <= {str(first), str(second)}
    assert in_use(swapped) == second
    # the replica that started meanwhile has prepared what is pinned
    assert comes_true(
        lambda: (
            [
                [one["state"] for one in replica["versions"] if one["version"] == second.version]
                for replica in swapped.status()["replicas"]["vae_decoder"]
            ]
            == [["loaded"], ["loaded"]]
        )
    )
    steps.rollback(swapped.registry, "toy")
    assert in_use(swapped) == first


@pytest.mark.parametrize("name", BAD)
def test_a_bad_candidate_is_refused_and_the_old_version_serves_on(
    swapped: Swapped, toy: Path, tmp_path: Path, name: str
) -> None:
    bad = BAD[name]
    before = swapped.live()
    path = bad.make(toy / "vae_decoder", tmp_path / "bad")
    if bad.stage == "publish":
        with pytest.raises((RegistryError, ComponentError), match=bad.words):
            swapped.publish(path)
    else:
        ref = swapped.publish(path)
        with pytest.raises(RegistryError, match=bad.words):
            steps.promote(swapped.registry, [ref], HASTY)
        answer = swapped.generate(seed=1, components={"vae_decoder": str(ref)})
        assert answer.status_code == 422, "a request may not have it either"
    assert swapped.live() == before
    assert swapped.generate(seed=1).status_code == 200


def test_a_request_may_have_another_version_that_fits(swapped: Swapped, second: ComponentRef) -> None:
    assert comes_true(lambda: "candidate" in swapped.aliases())
    by_alias = swapped.generate(components={"vae_decoder": f"{NAME}@candidate"})
    assert decoder_in(by_alias.headers["x-component-versions"]) == str(second)
    by_version = swapped.generate(components={"vae_decoder": str(second)})
    assert decoder_in(by_version.headers["x-component-versions"]) == str(second)
    metadata = by_version.content
    assert f'"version": {second.version}, "sha256": "{second.sha256}"'.encode() in metadata
    assert decoder_in(swapped.live()) != str(second), "one request's choice is its own"


def test_an_alias_moved_by_hand_is_followed_once_it_has_passed(swapped: Swapped, second: ComponentRef) -> None:
    first = in_use(swapped)
    swapped.registry.promote(NAME, second.version)
    assert comes_true(lambda: decoder_in(swapped.live()) == str(second))
    swapped.registry.promote(NAME, first.version)
    assert comes_true(lambda: decoder_in(swapped.live()) == str(first))


def test_an_alias_moved_by_hand_to_a_bad_version_is_set_back(swapped: Swapped, toy: Path, tmp_path: Path) -> None:
    first = in_use(swapped)
    bad = swapped.publish(BAD["NaN weights"].make(toy / "vae_decoder", tmp_path / "bad"))
    swapped.registry.promote(NAME, bad.version)
    assert comes_true(lambda: swapped.status()["state"] == "stopped")
    assert re.search(rf"{bad}: .*golden case golden-0.npz is off by nan", swapped.status()["reason"])
    assert comes_true(lambda: swapped.registry.aliases(NAME)["production"] == first.version)
    assert in_use(swapped) == first


def test_a_canary_gets_its_share_and_users_stay_with_one_version(swapped: Swapped, second: ComponentRef) -> None:
    first = in_use(swapped)
    steps.canary(swapped.registry, NAME, Canary(ref=second, percent=50, sticky=True), HASTY)
    chosen: dict[str, set[str]] = {}
    for user in "abcdefghijklmnopqrst":
        for _ in range(2):
            answer = swapped.generate(user=user)
            chosen.setdefault(user, set()).add(decoder_in(answer.headers["x-component-versions"]))
    assert all(len(versions) == 1 for versions in chosen.values())
    assert set.union(*chosen.values()) == {str(first), str(second)}
    assert swapped.application.metric_reaches(1, "latentworks_version_requests_total", f'version="{second}"')
    steps.canary(swapped.registry, NAME, None)
    assert {decoder_in(swapped.generate(user=user).headers["x-component-versions"]) for user in chosen} == {str(first)}


def fragile_decoder(good: Path, to: Path) -> Path:
    """A decoder that gives no number where the first latent is below zero; its golden cases are not."""
    folder = other_weights(good, to, scale=0.99, golden=False)
    model = onnx.load(folder / "model.onnx")
    graph = model.graph
    last = graph.node[-1]
    last.output[0] = "sound"
    for name in ("zeros", "ones"):
        value = np.zeros(4, np.int64) if name == "zeros" else np.ones(4, np.int64)
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            helper.make_node("Slice", ["latents", "zeros", "ones"], ["corner"]),
            helper.make_node("Sqrt", ["corner"], ["root"]),
            helper.make_node("Div", ["root", "root"], ["one_or_nan"]),
            helper.make_node("Mul", ["sound", "one_or_nan"], ["pixels"]),
        ]
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for file in folder.glob("golden-*.npz"):
        file.unlink()
    latents = np.abs(np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32))
    [pixels] = ReferenceEvaluator(model).run(None, {"latents": latents})
    np.savez(folder / "golden-0.npz", **{"input.latents": latents, "output.pixels": pixels})  # type: ignore[arg-type]  # as in exporters.parity
    golden = (GoldenCase(file="golden-0.npz", tolerance=1e-3),)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"files": record_files(folder), "golden": golden}))
    return folder


def test_a_canary_that_gives_no_pictures_ends_by_itself(swapped: Swapped, toy: Path, tmp_path: Path) -> None:
    first = in_use(swapped)
    fragile = swapped.publish(fragile_decoder(toy / "vae_decoder", tmp_path / "fragile"))
    steps.canary(swapped.registry, NAME, Canary(ref=fragile, percent=100, least=6), HASTY)
    marked = 0
    for seed in range(60):
        answer = swapped.application.generate_json(prompt="a red apple", steps=2, seed=seed)
        assert answer.status_code == 200
        [image] = answer.json()["data"]
        if image["fallback"] is not None:
            assert image["fallback"]["version"] != fragile.version
            marked += 1
        if swapped.status()["canary"] is None:
            break
    assert marked > 0
    assert comes_true(lambda: swapped.status()["canary"] is None)
    assert "rolled back" in swapped.status()["reason"]
    assert in_use(swapped) == first
    assert swapped.application.metric_reaches(1, "latentworks_non_finite_images_total", f'version="{fragile}"')
    assert swapped.application.metric_reaches(1, "latentworks_canaries_rolled_back_total")


def test_a_shadow_is_compared_and_never_seen(swapped: Swapped, second: ComponentRef) -> None:
    first = in_use(swapped)
    steps.shadow(swapped.registry, NAME, Shadow(ref=second, percent=100), HASTY)
    for seed in range(5):
        assert decoder_in(swapped.generate(seed=seed).headers["x-component-versions"]) == str(first)
    assert comes_true(lambda: swapped.status()["shadow"]["figures"]["pictures"] >= 5)
    assert swapped.status()["shadow"]["figures"]["psnr_db.least"] > 20
    assert comes_true(lambda: swapped.status()["shadow"]["mlflow_run"] is not None)
    run = swapped.status()["shadow"]["mlflow_run"]
    with swapped.registry.asking() as client:
        history = client.get_metric_history(run, "psnr_db")
    assert [one.step for one in history] == list(range(5))
    steps.shadow(swapped.registry, NAME, None)


def test_without_its_mlflow_server_the_last_good_versions_serve(cluster: Cluster, toy: Path, tmp_path: Path) -> None:
    with mlflow_server(tmp_path / "mlflow") as server:
        settings = {"home": cluster.home / "remote", "tracking_uri": server.url, "timeout_s": 2, "retries": 0}
        application = cluster.deploy("remote", "toy", toy, registry=settings, rollout={"poll_s": 0.2})
        swapped = Swapped(application, Registry.connect(RegistrySettings.model_validate(settings)))
        second = swapped.publish(other_weights(toy / "vae_decoder", tmp_path / "b", scale=0.97))
        steps.promote(swapped.registry, [second], HASTY)
        served = swapped.generate(seed=3)
        assert decoder_in(served.headers["x-component-versions"]) == str(second)
    assert swapped.generate(seed=3).content == served.content
    assert comes_true(lambda: ready(application)["registry"] == "away")
    assert application.metric_reaches(0.1, "latentworks_registry_away_seconds")
    with pytest.raises(
        RegistryError, match=r"^the registry at http://127.0.0.1:\d+ (cannot be reached|did not answer)"
    ):
        steps.promote(swapped.registry, [second], HASTY)
    # a restart of the controller, and one of all
    os.kill(application.replicas("rollout")[0], signal.SIGKILL)
    assert swapped.generate(seed=3).content == served.content
    cluster.remove(application)
    again = cluster.deploy("remote", "toy", toy, registry=settings, rollout={"poll_s": 0.2})
    assert again.live.pins[Kind.VAE_DECODER] == second
    assert Swapped(again, swapped.registry).generate(seed=3).content == served.content
    assert ready(again)["registry"] == "away"
    cluster.remove(again)


def ready(application: Application) -> Any:
    answer = httpx.get(f"{application.url}/readyz", timeout=30)
    assert answer.status_code == 200
    return answer.json()

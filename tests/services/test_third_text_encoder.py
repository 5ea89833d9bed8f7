"""A third text encoder, which a bundle may have: live with its other parts, and a deployment of its own."""

import asyncio
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from components.contract import PARTS, Kind
from pipeline.text_to_image import TextToImage
from registry.settings import RegistrySettings
from services.messages import LiveModel
from services.rollout.last_good import live_model
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from services.stage_args import TextEncoderArgs
from services.stage_host import StageSettings
from services.text_encoder import TextEncoderDeployment, TextEncoderSettings
from tests.services.cluster import Application, Cluster, comes_true
from tests.services.conftest import TOKENS, WIDTH, FakeRollout
from tests.services.third import write_with_third

ASKED: dict[str, Any] = {"prompt": "a red apple", "negative_prompt": "blue", "seed": 3, "steps": 4, "guidance": 4}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_with_third(tmp_path_factory.mktemp("models") / "third")


async def deployed(live: LiveModel, registry: RegistrySettings) -> Any:
    deployment: Any = TextEncoderDeployment.__new__(TextEncoderDeployment)
    rollout: Any = FakeRollout(live)
    settings = TextEncoderSettings(registry=registry, args=TextEncoderArgs(threads=1))
    await TextEncoderDeployment.__init__(deployment, rollout, settings, Kind.THIRD_TEXT_ENCODER)
    return deployment


def test_it_is_live_with_the_other_parts(bundle: Path, tmp_path: Path) -> None:
    registry = RegistrySettings(home=tmp_path)
    start, _away = begin(RolloutSettings(bundle="third", folder=bundle, registry=registry))
    live = live_model("third", start.rollout, start.contracts)
    assert set(live.pins) == {*PARTS, Kind.THIRD_TEXT_ENCODER}

    async def run() -> None:
        deployment = await deployed(live, registry)
        pin = live.pins[Kind.THIRD_TEXT_ENCODER]
        assert [version.pin for version in (await deployment.hold([pin], ())).versions] == [pin]
        encoded = (await deployment.encode(pin, ("a red apple", ""), 1, "none", 1)).made
        assert encoded.arrays["third_hidden_states"].shape == (2, TOKENS, WIDTH)

    asyncio.run(run())


def test_a_bundle_may_do_without_it(published: tuple[LiveModel, StageSettings]) -> None:
    live, settings = published
    assert Kind.THIRD_TEXT_ENCODER not in live.pins

    async def run() -> None:
        deployment = await deployed(live, settings.registry)
        assert (await deployment.hold((), ())).versions == ()
        await deployment.check_health()

    asyncio.run(run())


@pytest.fixture(scope="module")
def served(cluster: Cluster, bundle: Path) -> Iterator[Application]:
    with cluster.deployed("third", "third", bundle) as application:
        yield application


def running(application: Application) -> int:
    found = httpx.get(f"{application.url}/readyz", timeout=30).json()["replicas"]["third_text_encoder"]
    return int(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_replica_starts_with_the_first_request(served: Application, bundle: Path) -> None:
    assert running(served) == 0
    answer = served.generate(**ASKED)
    assert answer.status_code == 200, answer.text
    assert "third_text_encoder=third.third_text_encoder/1" in answer.headers["x-component-versions"]
    assert comes_true(lambda: running(served) == 1)
    alone = TextToImage.load(bundle).generate(**ASKED)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(alone))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_without_it_none_starts(cluster: Cluster, bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "without"))
    shutil.rmtree(folder / Kind.THIRD_TEXT_ENCODER)
    with cluster.deployed("without", "without", folder) as application:
        answer = application.generate(**ASKED)
        assert answer.status_code == 200, answer.text
        assert "third_text_encoder" not in answer.headers["x-component-versions"]
        assert running(application) == 0
        alone, with_it = (TextToImage.load(path).generate(**ASKED) for path in (folder, bundle))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(alone))
        assert not np.array_equal(np.asarray(alone), np.asarray(with_it))

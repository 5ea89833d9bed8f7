"""A whole release of a tiny checkpoint: components that open, pictures, and a page with the figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.contract import PARTS
from pipeline.bundle import open_bundle
from tests.training.test_denoiser import tiny
from training import checkpoint
from training.captions import learn_tokenizer
from training.denoiser import new_denoiser, pipeline, scheduler_for
from training.latents import Frozen
from training.loop import History
from training.pictures import Picture, PictureSet
from training.release import ReleaseError, release
from training.settings import VaeSettings
from training.vae import new_vae

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = [Picture(str(n), f"thing {n}", ("tag",), "3d", n % 4 == 0) for n in range(240)]
    return PictureSet(np.random.default_rng(0).integers(0, 255, (240, 128, 128, 3), np.uint8), made)


@pytest.fixture(scope="module")
def trained(pictures: PictureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()
    frozen = Frozen(vae, learn_tokenizer(pictures.pictures, 600), scheduler_for(tiny(1).noise))
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    checkpoint.save(pipeline(new_denoiser(tiny(1), frozen), frozen), History(1234, 0.25), folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "bundled-model.md").write_text("# Kept\n<!-- release -->\nold\n<!-- /release -->\nalso kept\n")
    return tmp_path


def test_a_release_is_components_pictures_and_figures(trained: Path, pictures: PictureSet, root: Path) -> None:
    found = release(trained, pictures, root, tiny(1), guidance=2.0)
    bundle = root / "models" / "emoji"
    assert all(folder.manifest.golden for folder in open_bundle(bundle, PARTS).values())
    assert checkpoint.history(bundle / "checkpoint") == History(1234, 0.25)
    with Image.open(root / "docs" / "bundled-model-grid.png") as image:
        assert image.size == (10 * 128, 6 * 128)
    with Image.open(root / "docs" / "apple.png") as image:
        assert image.size == (128, 128)
    page = (root / "docs" / "bundled-model.md").read_text()
    assert page.startswith("# Kept\n")
    assert page.endswith("also kept\n")
    assert "old" not in page
    for name, value in found.rows():
        assert f"| {name} | {value} |" in page


def test_a_page_without_a_place_is_refused_before_anything_is_replaced(
    trained: Path, pictures: PictureSet, root: Path
) -> None:
    (root / "docs" / "bundled-model.md").write_text("# Nothing here\n")
    with pytest.raises(ReleaseError, match="bundled-model.md"):
        release(trained, pictures, root, tiny(1), guidance=2.0)
    assert not (root / "models").exists()

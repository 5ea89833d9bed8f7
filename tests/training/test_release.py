"""Whole releases of a tiny checkpoint and of its decoders: components that open, pictures, and a page with figures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from components.contract import PARTS, Kind
from components.folder import ComponentFolder
from exporters.bundle import BundleOptions, export_bundle
from pipeline.bundle import open_bundle
from tests.training.test_denoiser import tiny
from training import checkpoint
from training.captions import learn_tokenizer
from training.decoder_report import decoders, qualities
from training.denoiser import new_denoiser, pipeline, scheduler_for
from training.evaluation import reconstruction_psnr
from training.latents import Frozen
from training.loop import History
from training.page import PageError
from training.pictures import Picture, PictureSet
from training.release import release, release_decoders
from training.settings import DecoderSettings, LoopSettings, VaeSettings
from training.tiny_decoder import new_decoder, save
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
    blocks = (f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in ("release", "decoders"))
    (tmp_path / "docs" / "bundled-model.md").write_text(f"# Kept\n{''.join(blocks)}also kept\n")
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
    assert page.count("old") == 1, "the other block is not this command's"
    for name, value in found.rows():
        assert f"| {name} | {value} |" in page


def test_small_decoders_join_what_is_released_already(trained: Path, pictures: PictureSet, root: Path) -> None:
    bundle, folder = root / "models" / "emoji", root / "trained"
    shutil.copytree(trained, bundle / "checkpoint")
    export_bundle(trained, bundle, BundleOptions("emoji"))
    before = contents(bundle)
    loop = LoopSettings(steps=1, batch=1, learning_rate=1e-3)
    for name, width in (("small", 16), ("preview", 8)):
        settings = DecoderSettings(width=width, blocks=(1, 0, 0, 0), loop=loop)
        decoder = new_decoder(settings, checkpoint.load(trained).vae).eval()
        save(decoder, History(7, 0.5), folder / name / "checkpoint")
    table = release_decoders(folder, pictures, root, guidance=2.0)
    assert {path: content for path, content in contents(bundle).items() if path in before} == before
    contracts = [
        ComponentFolder.open(bundle / name).manifest.contract
        for name in ("vae_decoder", "vae_decoder-small", "preview_decoder")
    ]
    assert [contract.kind for contract in contracts] == [Kind.VAE_DECODER, Kind.VAE_DECODER, Kind.PREVIEW_DECODER]
    assert contracts[0] == contracts[1]
    assert AutoencoderTiny.from_pretrained(bundle / "decoders" / "small").config.num_decoder_blocks == [1, 0, 0, 0]
    with Image.open(root / "docs" / "decoders.png") as image:
        assert image.size == (12 * 128, 4 * 128)
    page = (root / "docs" / "bundled-model.md").read_text()
    assert f"<!-- decoders -->\n{table}\n<!-- /decoders -->\nalso kept\n" in page
    assert page.count("old") == 1
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| KL", "| small", "| preview"]


def test_the_vae_reconstructs_as_its_own_report_says(trained: Path, pictures: PictureSet) -> None:
    pipe = checkpoint.load(trained)
    found = qualities(pipe, decoders(pipe, {}), pictures, guidance=2.0)["KL"]
    torch.testing.assert_close(found.held_out, reconstruction_psnr(pipe.vae, pictures), rtol=0, atol=1e-3)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_page_without_a_place_is_refused_before_anything_is_replaced(
    trained: Path, pictures: PictureSet, root: Path
) -> None:
    (root / "docs" / "bundled-model.md").write_text("# Nothing here\n")
    with pytest.raises(PageError, match="bundled-model.md"):
        release(trained, pictures, root, tiny(1), guidance=2.0)
    with pytest.raises(PageError, match="<!-- decoders -->"):
        release_decoders(trained, pictures, root, guidance=2.0)
    assert not (root / "models").exists()

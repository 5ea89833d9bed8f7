"""A whole release of additions with tiny weights: what is copied, measured and written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import T2IAdapter, UNet2DConditionModel
from PIL import Image

from components.contract import Kind
from components.folder import MAIN_GRAPH, ComponentFolder, record_files, write_manifest
from components.manifest import Manifest, Origin, Parity
from exporters.checkpoint import Checkpoint
from exporters.denoiser import denoiser
from exporters.preview import fit_preview
from exporters.text_encoder import text_encoder
from exporters.vae import latent_space
from tests.training.test_denoiser import tiny
from training import adapter, additions, checkpoint, inpainting
from training.additions import Addition
from training.captions import learn_tokenizer
from training.denoiser import new_denoiser, pipeline, scheduler_for
from training.latents import Frozen
from training.loop import History
from training.page import PageError
from training.pictures import Picture, PictureSet
from training.settings import AdapterSettings, VaeSettings
from training.vae import new_vae

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
BLOCK = "<!-- {0} -->\nold\n<!-- /{0} -->\n"


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    """Of the held-out ones only a few are of drawn things, in two styles."""
    count = 210
    plain = PictureSet(np.zeros((count, 1, 1, 3), np.uint8), [Picture("", "", (), "3d", False)] * count)
    few = dict.fromkeys(plain.held_out()[:8:2].tolist(), "3d") | dict.fromkeys(plain.held_out()[1:8:2].tolist(), "noto")
    known = sorted(set(range(count)) - set(plain.held_out().tolist()))
    styles = few | dict.fromkeys(known, "3d")
    made = [Picture(str(n), f"thing {n}", (), styles.get(n, "3d"), n in styles) for n in range(count)]
    patches = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3), np.uint8)
    return PictureSet(patches.repeat(16, axis=1).repeat(16, axis=2), made)


@pytest.fixture(scope="module")
def base(pictures: PictureSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 8, 8, 8))).eval()
    frozen = Frozen(vae, learn_tokenizer(pictures.pictures, 600), scheduler_for(tiny(1).noise))
    folder = tmp_path_factory.mktemp("base") / "checkpoint"
    checkpoint.save(pipeline(new_denoiser(tiny(1), frozen), frozen), History(1234, 0.25), folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    blocks = "".join(BLOCK.format(name) for name in ("inpainting", "edges"))
    (tmp_path / "docs" / additions.PAGE).write_text(f"# Kept\n{blocks}also kept\n")
    return tmp_path


@pytest.mark.parametrize("addition", [Addition.INPAINTING, Addition.EDGES])
def test_an_addition_is_its_weights_its_grid_and_its_figures(
    addition: Addition, base: Path, pictures: PictureSet, root: Path
) -> None:
    pipe, weights = checkpoint.load(base), root / "trained"
    torch.manual_seed(0)
    made = {
        Addition.INPAINTING: (inpainting.new_masked_unet(pipe.unet), UNet2DConditionModel, 4),
        Addition.EDGES: (adapter.new_adapter(AdapterSettings(blocks=1), pipe), T2IAdapter, 3),
    }
    network, its_class, rows = made[addition]
    write_denoiser(base, root / "models" / "emoji" / "denoiser")
    checkpoint.save(network, History(7, 0.5), weights)
    shown = additions.release(addition, weights, base, pictures, root, guidance=2.0)
    place = additions.released(addition, root)
    assert place is not None
    assert checkpoint.history(place) == History(7, 0.5)
    loaded = its_class.from_pretrained(place).state_dict()
    for name, each in network.state_dict().items():
        torch.testing.assert_close(loaded[name], each.half().float(), rtol=0, atol=0)
    with Image.open(root / "docs" / f"{addition}.png") as image:
        assert image.size == (12 * 128, rows * 128)
    page = (root / "docs" / additions.PAGE).read_text()
    assert f"<!-- {addition} -->\n{shown.table}\n\n![" in page
    assert page.count("old") == 1, "the other block is not this addition's"
    assert page.endswith("also kept\n")
    components = [file.parent.name for file in (root / "models" / "emoji").glob("*/component.json")]
    assert sorted(components) == (["adapter-edges", "denoiser"] if addition == Addition.EDGES else ["denoiser"])
    if addition == Addition.EDGES:
        exported = ComponentFolder.open(root / "models" / "emoji" / "adapter-edges").manifest
        assert (exported.contract.kind, exported.weights) == (Kind.ADAPTER, "float16")


def write_denoiser(checkpoint: Path, folder: Path) -> None:
    """The component of a checkpoint's denoiser with all that is looked at when something is exported for it."""
    parts = Checkpoint.open(checkpoint)
    vae = parts.vae()
    space = latent_space(vae, "emoji")
    network = denoiser(parts, space, text_encoder(parts).contract.conditioning, fit_preview(vae, space))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    manifest = Manifest(
        contract=network.contract,
        graphs={MAIN_GRAPH: "model.onnx"},
        weights="float16",
        files=record_files(folder),
        parity=Parity(max_absolute_error=0, shapes={}),
        origin=Origin(source="a test", exporter={}),
    )
    write_manifest(folder, manifest)


def test_a_page_without_a_place_is_refused_before_anything_is_replaced(
    base: Path, pictures: PictureSet, root: Path
) -> None:
    with pytest.raises(PageError, match="<!-- x4 -->"):
        additions.release(Addition.X4, root / "trained", base, pictures, root, guidance=2.0)
    assert not (root / "models").exists()

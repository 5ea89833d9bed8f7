from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.__main__ import main
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import Options, TextToImage
from runtime.settings import SessionSettings

app = typer.Typer()
app.command()(main)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_it_writes_the_picture_of_the_chain(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    code, output = run("a red apple", "--bundle", bundle, "--out", out, "--seed", "3", "--steps", "4", "--threads", "1")
    assert (code, output) == (0, f"{out}: seed 3\n")
    expected = TextToImage.load(bundle, SessionSettings(threads=1)).generate("a red apple", seed=3, steps=4)
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_the_noise_is_an_option(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    base = ("a red apple", "--bundle", bundle, "--out", out, "--seed", "3", "--steps", "4", "--threads", "1")
    code, output = run(*base, "--rng", "philox", "--subseed", "0", "--subseed-strength", "0.5")
    assert (code, output) == (0, f"{out}: seed 3, subseed 0\n")
    chain = TextToImage.load(bundle, SessionSettings(threads=1))
    expected = chain.generate("a red apple", seed=3, steps=4, rng="philox", subseed=0, subseed_strength=0.5)
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    # a subseed drawn afresh is told: it gives the picture again
    _, output = run(*base, "--subseed-strength", "0.5")
    fresh = out.read_bytes()
    run(*base, "--subseed-strength", "0.5", "--subseed", output.split()[-1])
    assert out.read_bytes() == fresh


@pytest.mark.parametrize(
    "options",
    [
        Options(guidance_rescale=0.7),
        Options(guidance_start=0.25),
        Options(guidance_end=0.5),
        Options(adaptive_guidance=1e-6),
        Options(eta=1.0),
        Options(weighting="a1111", negative_prompt="(green:1.5) boat"),
        Options(clip_skip=2),
        Options(sampler="dpmpp_2m", schedule="karras", guidance_start=0.25, guidance_end=0.75),
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_part_of_the_walk_is_an_option(bundle: Path, tmp_path: Path, options: Options) -> None:
    out = tmp_path / "x.png"
    base = ("a red apple", "--bundle", bundle, "--out", out, "--seed", "3", "--steps", "4", "--threads", "1")
    named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert run(*base, *named) == (0, f"{out}: seed 3\n")
    chain = TextToImage.load(bundle, SessionSettings(threads=1))
    expected = np.asarray(chain.generate("a red apple", **Options(**{**options, "seed": 3, "steps": 4})))
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert (expected != np.asarray(chain.generate("a red apple", seed=3, steps=4))).any(), "it changes nothing"


def test_a_picture_is_changed_where_a_mask_says_so(bundle: Path, tmp_path: Path) -> None:
    source, mask, out = (tmp_path / name for name in ("a.png", "m.png", "x.png"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    picture.save(source)
    Image.linear_gradient("L").save(mask)
    base = ("a red apple", "--bundle", bundle, "--out", out, "--seed", "3", "--steps", "4", "--threads", "1")
    chain = ImageToImage.load(bundle, SessionSettings(threads=1))
    for more, expected in (
        (("--image", source), chain.generate("a red apple", picture, seed=3, steps=4)),
        (
            ("--image", source, "--strength", "0.5"),
            chain.generate("a red apple", picture, seed=3, steps=4, strength=0.5),
        ),
        (
            ("--image", source, "--mask", mask),
            chain.generate("a red apple", picture, Image.linear_gradient("L"), seed=3, steps=4),
        ),
    ):
        assert run(*base, *more) == (0, f"{out}: seed 3\n")
        with Image.open(out) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "--steps", "0"], "steps=0: must be a whole number between 1 and 150\n"),
        (["a", "--guidance", "nan"], "guidance=nan: must be a number between 0 and 50\n"),
        (["a", "--rng", "magic"], "rng='magic': must be one of philox, torch\n"),
        (["a", "--subseed-strength", "2"], "subseed_strength=2.0: must be a number between 0 and 1\n"),
        (["a", "--guidance-rescale", "1.5"], "guidance_rescale=1.5: must be a number between 0 and 1\n"),
        (["a", "--guidance-start", "nan"], "guidance_start=nan: must be a number between 0 and 1\n"),
        (["a", "--guidance-end", "-1"], "guidance_end=-1.0: must be a number between 0 and 1\n"),
        (["a", "--adaptive-guidance", "2"], "adaptive_guidance=2.0: must be a number between 0 and 1\n"),
        (
            ["a", "--sampler", "euler", "--eta", "1"],
            "eta=1.0: must be 0 or left out for euler, which has no share of noise to choose\n",
        ),
        (["a", "--mask", "m.png"], "--mask: needs an --image\n"),
        (["a", "--depth", "d.png"], "--depth: needs an --image\n"),
        (["a", "--strength", "0.5"], "--strength: needs an --image\n"),
        (["a", "--image", "none.png"], "--image: cannot be read: No such file or directory\n"),
        (["a", "--image", "text.png"], "image: must be a picture, one of PNG, JPEG, WEBP, GIF, BMP\n"),
        (
            ["a", "--image", "ok.png", "--mask", "text.png"],
            "mask: must be a picture, one of PNG, JPEG, WEBP, GIF, BMP\n",
        ),
        (["a", "--image", "short.png"], "image: cannot be read as a picture\n"),
        (["a", "--image", "ok.png", "--strength", "2"], "strength=2.0: must be a number between 0 and 1\n"),
        ([""], "prompt: has 0 characters, must have 1 to 4000\n"),
        (["a", "--bundle", "nowhere"], "nowhere: no such folder; a bundle holds text_encoder, denoiser, vae_decoder\n"),
        (["a", "--out", "x.tiff"], "--out: its name must end in one of .png, .jpg, .jpeg, .webp\n"),
        (["a", "--out", "no/such/folder/x.png"], "--out: cannot be written: No such file or directory\n"),
    ],
)
def test_an_error_is_one_sentence(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    Image.effect_noise((99, 99), 9).save("ok.png")
    Path("short.png").write_bytes(Path("ok.png").read_bytes()[:2000])
    code, output = run("--bundle", bundle, "--out", "x.png", *arguments)
    assert (code, output) == (1, sentence)
    assert not (tmp_path / "x.png").exists()

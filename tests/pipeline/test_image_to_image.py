"""The chain from a picture: what it gives by hand, what a mask keeps, and what is refused before anything runs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from components.errors import ComponentError
from pipeline.errors import RequestError
from pipeline.image_to_image import EditOptions, ImageToImage
from pipeline.request import RequestRules
from pipeline.text_to_image import TextToImage
from runtime.feeds import Feeds
from runtime.interrupt import Interrupt
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.pipeline.conftest import DOWNSCALE, F32, SCHEDULE, SPACE, Networks, tokenizer

CPU = SessionSettings(threads=1, provider="cpu")
PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
BLACK, WHITE = Image.new("L", (16, 16)), Image.new("L", (16, 16), 255)
LEFT = Image.new("L", (16, 16))
LEFT.paste(255, (0, 0, 6, 16))
OPTIONS = EditOptions(sampler="euler", steps=8, guidance=3.0, seed=3, strength=0.5)


@pytest.fixture(scope="module")
def chain(bundle: Path) -> ImageToImage:
    return ImageToImage.load(bundle, CPU)


def chosen(**changes: Any) -> EditOptions:
    return cast(EditOptions, {**OPTIONS, **changes})


def bytes_of(drawn: Image.Image) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(drawn).astype(np.int16)


def decoded(networks: Networks, latents: torch.Tensor) -> Image.Image:
    pixels = networks.decode(latents / SPACE.scaling_factor + SPACE.shift_factor)
    (image,) = VaeImageProcessor(vae_scale_factor=DOWNSCALE).postprocess(pixels, "pil")
    assert isinstance(image, Image.Image)
    return image


def sampled(networks: Networks, generator: torch.Generator) -> torch.Tensor:
    seen = VaeImageProcessor(vae_scale_factor=DOWNSCALE).preprocess(PICTURE)
    latents = DiagonalGaussianDistribution(networks.encode(seen)).sample(generator)
    scaled: torch.Tensor = (latents - SPACE.shift_factor) * SPACE.scaling_factor
    return scaled


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch in diffusers' Euler
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_it_edits_as_the_loop_of_diffusers_does(
    chain: ImageToImage, networks: Networks, strength: float, masked: bool
) -> None:
    steps = 8
    generator = torch.Generator("cpu").manual_seed(3)
    scheduler: Any = EulerDiscreteScheduler.from_config(SCHEDULE.model_dump(exclude={"timestep_spacing"}))
    scheduler.set_timesteps(steps)
    first = steps - int(steps * strength)
    scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    clean = sampled(networks, generator)
    noise = torch.randn(clean.shape, generator=generator)
    pure = masked and strength == 1
    latents = noise * scheduler.init_noise_sigma if pure else scheduler.add_noise(clean, noise, timesteps[:1])
    ids = torch.tensor([encoding.ids for encoding in tokenizer().encode_batch(["", "a red apple"])])
    anew = torch.from_numpy(np.asarray(LEFT)[::DOWNSCALE, ::DOWNSCALE] / np.float32(255))
    for place, timestep in enumerate(timesteps):
        seen = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
        told = timestep.to(torch.float32).expand(2)
        from_uncond, from_cond = networks.predict(seen, told, networks.encode_text(ids)).chunk(2)
        latents = scheduler.step(from_uncond + 3 * (from_cond - from_uncond), timestep, latents).prev_sample
        if masked:
            last = place == len(timesteps) - 1
            kept = clean if last else scheduler.add_noise(clean, noise, timesteps[place + 1 : place + 2])
            latents = (1 - anew) * kept + anew * latents
    drawn = chain.generate("a red apple", PICTURE, LEFT if masked else None, **chosen(strength=strength))
    expected = bytes_of(decoded(networks, latents))
    np.testing.assert_allclose(bytes_of(drawn), expected, atol=1)
    assert np.abs(bytes_of(drawn) - expected).mean() < 0.02


def test_nothing_to_draw_anew_is_the_pictures_way_through_the_vae(chain: ImageToImage, networks: Networks) -> None:
    expected = bytes_of(decoded(networks, sampled(networks, torch.Generator("cpu").manual_seed(3))))
    for strength in (0.5, 1.0):
        drawn = chain.generate("a red apple", PICTURE, BLACK, **chosen(strength=strength))
        np.testing.assert_allclose(bytes_of(drawn), expected, atol=1)
    left = bytes_of(chain.generate("a red apple", PICTURE, LEFT, **OPTIONS))
    # one latent pixel of this VAE is two pixels wide, and sees no other
    np.testing.assert_allclose(left[:, 6:], expected[:, 6:], atol=1)
    assert np.abs(left[:, :6] - expected[:, :6]).mean() > 5


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp_2m", "unipc", "pndm"])
def test_all_to_draw_anew_is_image_to_image(chain: ImageToImage, sampler: str) -> None:
    options = chosen(sampler=sampler)
    whole = chain.generate("a red apple", PICTURE, **options)
    assert chain.generate("a red apple", PICTURE, WHITE, **options).tobytes() == whole.tobytes()


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_only_a_mask_makes_strength_one_start_from_noise_alone(chain: ImageToImage, bundle: Path, sampler: str) -> None:
    options = chosen(sampler=sampler, strength=1.0)
    # the second draw: the first one sampled the picture's latents
    generator = torch.Generator("cpu").manual_seed(3)
    noise: F32 = [torch.randn((1, 4, 8, 8), generator=generator) for _ in range(2)][1].numpy()
    text = TextToImage.load(bundle, CPU)
    alone = text.generate("a red apple", noise=noise, sampler=sampler, steps=8, guidance=3.0)
    np.testing.assert_allclose(
        bytes_of(chain.generate("a red apple", PICTURE, WHITE, **options)), bytes_of(alone), atol=1
    )
    assert chain.generate("a red apple", PICTURE, **options).tobytes() != alone.tobytes()


def test_less_strength_keeps_more_of_the_picture(chain: ImageToImage) -> None:
    kept = bytes_of(chain.generate("a red apple", PICTURE, BLACK, **OPTIONS))
    options = [chosen(strength=strength) for strength in (0.125, 0.5, 1.0)]
    drawn = [bytes_of(chain.generate("a red apple", PICTURE, **each)) for each in options]
    distances = [float(np.abs(each - kept).mean()) for each in drawn]
    assert distances == sorted(distances)
    assert distances[0] < distances[2] / 2


def test_picture_mask_strength_and_seed_each_change_the_picture(chain: ImageToImage) -> None:
    other = PICTURE.transpose(Image.Transpose.ROTATE_90)
    drawn = {
        chain.generate("a red apple", picture, mask, **chosen(**changes)).tobytes()
        for picture, mask, changes in (
            (PICTURE, None, {}),
            (other, None, {}),
            (PICTURE, LEFT, {}),
            (PICTURE, LEFT.transpose(Image.Transpose.ROTATE_90), {}),
            (PICTURE, None, {"strength": 0.75}),
            (PICTURE, None, {"seed": 4}),
            (PICTURE, None, {"rng": "philox"}),
            (PICTURE, None, {"subseed_strength": 0.5}),
            (PICTURE, LEFT, {"sampler": "ddim", "eta": 1.0}),
            (PICTURE, LEFT, {"sampler": "ddim"}),
        )
    }
    assert len(drawn) == 10


def test_the_same_edit_gives_the_same_bytes_from_any_thread(chain: ImageToImage) -> None:
    def draw(seed: int) -> bytes:
        return chain.generate("a red apple", PICTURE, LEFT, **chosen(seed=seed)).tobytes()

    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, range(8))) == alone
    assert len(set(alone)) == 8


def test_the_size_is_the_bundles_own_unless_given(chain: ImageToImage) -> None:
    large = PICTURE.resize((50, 31))
    assert chain.generate("boat", large, steps=2).size == (16, 16)
    assert chain.generate("boat", large, LEFT, steps=2, width=20, height=18).size == (20, 18)


def test_strength_is_by_default_that_of_diffusers_or_of_the_rules(chain: ImageToImage, bundle: Path) -> None:
    def draw(edits: ImageToImage, mask: Image.Image | None, **strength: Any) -> bytes:
        return edits.generate("boat", PICTURE, mask, **cast(EditOptions, {"steps": 10, **strength})).tobytes()

    assert draw(chain, None) == draw(chain, None, strength=0.8) != draw(chain, None, strength=1.0)
    assert draw(chain, LEFT) == draw(chain, LEFT, strength=1.0) != draw(chain, LEFT, strength=0.8)
    gentle = ImageToImage.load(bundle, CPU, RequestRules(default_strength=0.3))
    assert draw(gentle, None) == draw(chain, None, strength=0.3)


def test_a_bad_request_is_refused_before_any_session_runs(
    chain: ImageToImage, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Session] = []
    run = Session.run

    def recorded(session: Session, feeds: Feeds, interrupt: Interrupt | None = None) -> dict[str, Any]:
        runs.append(session)
        return run(session, feeds, interrupt)

    monkeypatch.setattr(Session, "run", recorded)
    for bad, words in (
        (EditOptions(strength=1.1), "strength=1.1: must be a number between 0 and 1"),
        (EditOptions(strength=0.05, steps=10), "strength=0.05: must be at least 1/10 for 10 steps"),
        (EditOptions(steps=0), "steps=0"),
        (EditOptions(width=15), "width=15"),
    ):
        with pytest.raises(RequestError) as caught:
            chain.generate("boat", PICTURE, **bad)
        assert str(caught.value).startswith(words)
    small = ImageToImage.load(bundle, CPU, RequestRules(max_source_pixels=300))
    runs.clear()
    for image, mask, field in ((PICTURE.resize((20, 20)), None, "image"), (PICTURE, LEFT.resize((20, 20)), "mask")):
        with pytest.raises(RequestError, match=f"{field}=20x20: must have 1 to 300 pixels, not 400"):
            small.generate("boat", image, mask)
    assert runs == []


def test_a_bundle_without_a_vae_encoder_is_refused(bundle: Path, tmp_path: Path) -> None:
    for kind in ("text_encoder", "denoiser", "vae_decoder"):
        (tmp_path / kind).symlink_to(bundle / kind)
    with pytest.raises(ComponentError, match="vae_encoder"):
        ImageToImage.load(tmp_path, CPU)

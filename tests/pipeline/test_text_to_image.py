"""The chain against the same networks in torch, walked by diffusers' schedulers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from components.contract import Kind
from components.errors import ComponentError
from pipeline.errors import RequestError
from pipeline.text_to_image import Options, TextToImage
from runtime.feeds import Feeds
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.pipeline.conftest import (
    CONTRACTS,
    DOWNSCALE,
    F32,
    SCHEDULE,
    SPACE,
    Networks,
    tokenizer,
    write_component,
)

CPU = SessionSettings(threads=1, provider="cpu")
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


@pytest.fixture(scope="module")
def chain(bundle: Path) -> TextToImage:
    return TextToImage.load(bundle, CPU)


def reference(networks: Networks, texts: tuple[str, str], noise: F32, options: Options) -> Image.Image:
    config = {**SCHEDULE.model_dump(exclude={"timestep_spacing"}), "clip_sample": False}
    scheduler: Any = SCHEDULERS[options["sampler"]].from_config(config)
    scheduler.set_timesteps(options["steps"])
    ids = torch.tensor([encoding.ids for encoding in tokenizer().encode_batch(list(texts))])
    cond, uncond = networks.encode_text(ids).chunk(2)
    latents = torch.from_numpy(noise) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
        told = timestep.to(torch.float32).expand(2)
        from_uncond, from_cond = networks.predict(seen, told, torch.cat([uncond, cond])).chunk(2)
        guided = from_uncond + options["guidance"] * (from_cond - from_uncond)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    pixels = networks.decode(latents / SPACE.scaling_factor + SPACE.shift_factor)
    (image,) = VaeImageProcessor(vae_scale_factor=DOWNSCALE).postprocess(pixels, "pil")
    assert isinstance(image, Image.Image)
    return image


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch in diffusers' Euler
@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 7, 25])
@pytest.mark.parametrize(("guidance", "negative"), [(1.0, ""), (3.5, ""), (7.5, "green boat")])
@pytest.mark.parametrize(("width", "height"), [(16, 16), (24, 18)])
def test_it_draws_what_diffusers_draws(
    chain: TextToImage,
    networks: Networks,
    sampler: str,
    steps: int,
    guidance: float,
    negative: str,
    width: int,
    height: int,
) -> None:
    noise = np.random.default_rng(steps).standard_normal((1, 4, height // DOWNSCALE, width // DOWNSCALE), np.float32)
    options = Options(
        sampler=sampler, steps=steps, guidance=guidance, negative_prompt=negative, width=width, height=height
    )
    drawn = chain.generate("a red apple", noise=noise, **options)
    expected = reference(networks, ("a red apple", negative), noise, options)
    assert drawn.size == (width, height)
    np.testing.assert_allclose(np.asarray(drawn, np.int16), np.asarray(expected, np.int16), atol=1)
    difference = np.abs(np.asarray(drawn, np.int16) - np.asarray(expected, np.int16)).mean()
    assert difference < 0.02


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, 2**32 + 42])
def test_a_seed_gives_the_picture_that_diffusers_draws_from_its_generator(
    chain: TextToImage, networks: Networks, seed: int
) -> None:
    options = Options(seed=seed, sampler="ddim", steps=10, guidance=5.0, negative_prompt="", width=24, height=18)
    noise = torch.randn((1, 4, 9, 12), generator=torch.Generator("cpu").manual_seed(seed)).numpy()
    drawn = np.asarray(chain.generate("a red apple", **options), np.int16)
    expected = np.asarray(reference(networks, ("a red apple", ""), noise, options), np.int16)
    np.testing.assert_allclose(drawn, expected, atol=1)
    assert np.abs(drawn - expected).mean() < 0.02


def test_prompt_negative_prompt_seed_and_guidance_each_change_the_picture(chain: TextToImage) -> None:
    base = Options(seed=1, steps=4, guidance=3.0, negative_prompt="boat", sampler="ddim")
    options = [
        base,
        Options(**{**base, "seed": 2}),
        Options(**{**base, "steps": 5}),
        Options(**{**base, "guidance": 4.0}),
        Options(**{**base, "negative_prompt": "apple"}),
        Options(**{**base, "sampler": "euler"}),
        Options(**{**base, "schedule": "karras", "sampler": "euler"}),
        Options(**{**base, "eta": 1.0}),
        Options(**{**base, "guidance_rescale": 0.5}),
        Options(**{**base, "guidance_start": 0.5}),
        Options(**{**base, "guidance_end": 0.5}),
        Options(**{**base, "adaptive_guidance": 1e-6}),
        Options(**{**base, "rng": "philox"}),
        Options(**{**base, "weighting": "a1111", "negative_prompt": "(boat:1.5) a"}),
        Options(**{**base, "weighting": "compel", "negative_prompt": "boat++ a"}),
        Options(**{**base, "clip_skip": 2}),
        Options(**{**base, "subseed_strength": 0.5}),
        Options(**{**base, "subseed_strength": 0.5, "subseed": 3}),
    ]
    pictures = {chain.generate("a red apple", **each).tobytes() for each in options}
    pictures.add(chain.generate("a blue apple", **base).tobytes())
    assert len(pictures) == len(options) + 1


def test_the_same_request_gives_the_same_bytes_from_any_thread(chain: TextToImage) -> None:
    def draw(seed: int) -> bytes:
        return chain.generate("a red apple", seed=seed, steps=6).tobytes()

    alone = [draw(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, range(12))) == alone
    assert len(set(alone)) == 12


def test_the_size_is_the_bundles_own_unless_given(chain: TextToImage) -> None:
    assert chain.generate("boat", steps=1).size == (16, 16)
    assert chain.generate("boat", steps=1, width=20).size == (20, 16)


def test_a_long_prompt_is_cut_and_said_so(chain: TextToImage, caplog: pytest.LogCaptureFixture) -> None:
    words = "apple red blue green boat a"
    assert chain.generate(f"{words} red red", steps=2).tobytes() == chain.generate(words, steps=2).tobytes()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["prompt"]
    assert "apple" not in caplog.text


def test_a_bad_request_is_refused_before_any_session_runs(chain: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Session] = []
    run = Session.run

    def recorded(session: Session, feeds: Feeds, *others: Any, **named: Any) -> dict[str, Any]:
        runs.append(session)
        return run(session, feeds, *others, **named)

    monkeypatch.setattr(Session, "run", recorded)
    for bad in (
        Options(steps=0),
        Options(guidance=float("nan")),
        Options(seed=-1),
        Options(width=17),
        Options(sampler="magic"),
        Options(guidance_rescale=2.0),
        Options(guidance_start=float("nan")),
        Options(guidance_end=-0.5),
        Options(adaptive_guidance=0.0),
        Options(eta=1.5),
        Options(rng="magic"),
        Options(subseed=-1),
        Options(subseed_strength=2.0),
        Options(negative_prompt="\ud800"),
        Options(weighting="magic"),
        Options(negative_prompt="(x:2000)", weighting="a1111"),
        Options(clip_skip=3),
    ):
        with pytest.raises(RequestError, match=next(iter(bad))):
            chain.generate("boat", **bad)
    assert not runs
    # texts that no other test has had encoded
    chain.generate("a ferry", negative_prompt="a raft", steps=1)
    assert len(runs) == 4


def test_noise_of_another_size_is_refused(chain: TextToImage) -> None:
    with pytest.raises(RequestError, match=r"noise='float32 \[1, 4, 8, 8\]'"):
        chain.generate("boat", steps=1, width=32, noise=np.zeros((1, 4, 8, 8), np.float32))


def test_components_that_do_not_fit_are_all_named(networks: Networks, tmp_path: Path) -> None:
    other = SPACE.model_copy(update={"id": "other", "scaling_factor": 0.2})
    for kind, contract in CONTRACTS.items():
        changed: dict[str, object] = {"latent_space": other} if kind == Kind.VAE_DECODER else {}
        if kind == Kind.TEXT_ENCODER:
            changed = {"conditioning": (contract.conditioning[0].model_copy(update={"tokens": 9}),)}
        write_component(tmp_path / "odd" / kind, contract.model_copy(update=changed), networks)
    with pytest.raises(ComponentError, match="do not fit") as caught:
        TextToImage.load(tmp_path / "odd", CPU)
    for part in ("latent space id", "latent space scaling_factor", "conditioning hidden_states tokens"):
        assert part in str(caught.value)


def test_a_damaged_component_is_refused(networks: Networks, tmp_path: Path) -> None:
    for kind, contract in CONTRACTS.items():
        write_component(tmp_path / "odd" / kind, contract, networks)
    model = tmp_path / "odd" / "denoiser" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ComponentError, match=r"denoiser.*model\.onnx"):
        TextToImage.load(tmp_path / "odd", CPU)
    with pytest.raises(ComponentError, match="nowhere: no such folder"):
        TextToImage.load(tmp_path / "nowhere", CPU)

import pickle
from dataclasses import replace

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from components.contract import ImageChannels, Kind
from components.messages import EncodedImage, EncodedText, LatentDistribution
from diffusion.latents import sample, to_model
from diffusion.noise import noise
from pipeline.jobs import denoise_jobs
from tests.pipeline.conftest import CONTRACTS, SPACE
from tests.requests import image_request

CONTRACT = CONTRACTS[Kind.DENOISER]
REQUEST = image_request(negative_prompt="b", rng="philox", seed=40, n=3, width=16, height=8)
ENCODED = EncodedText({"hidden_states": np.arange(2 * 8 * 6, dtype=np.float32).reshape(2, 8, 6)}, (False, False))


def test_picture_k_takes_seed_plus_k() -> None:
    jobs = denoise_jobs(REQUEST, ENCODED, CONTRACT)
    assert [(job.seed, job.subseed) for job in jobs] == [(40, None), (41, None), (42, None)]
    assert {job.rng for job in jobs} == {"philox"}
    assert {(job.height, job.width) for job in jobs} == {(4, 8)}
    assert jobs[0].rows.keys() == {"positive", "negative"}
    np.testing.assert_array_equal(jobs[0].rows["positive"]["hidden_states"], ENCODED.arrays["hidden_states"][:1])
    np.testing.assert_array_equal(jobs[0].rows["negative"]["hidden_states"], ENCODED.arrays["hidden_states"][1:])


def test_pictures_that_vary_one_take_subseed_plus_k() -> None:
    varied = replace(REQUEST, subseed=7, subseed_strength=0.25)
    jobs = denoise_jobs(varied, ENCODED, CONTRACT)
    assert [(job.seed, job.subseed, job.subseed_strength) for job in jobs] == [(40, k, 0.25) for k in (7, 8, 9)]
    alone = [varied.picture(image) for image in range(3)]
    assert alone[2] == replace(varied, subseed=9, n=1)
    assert [one.picture(0) for one in alone] == alone


def test_guidance_one_encodes_the_prompt_alone() -> None:
    plain = replace(REQUEST, guidance=1.0, n=1)
    assert REQUEST.texts == ("a", "b")
    assert plain.texts == ("a",)
    (job,) = denoise_jobs(plain, EncodedText(ENCODED.row(0), (False,)), CONTRACT)
    assert job.rows.keys() == {"positive"}


def test_a_job_walks_as_its_request_says() -> None:
    walk = {
        "guidance_rescale": 0.5,
        "guidance_start": 0.25,
        "guidance_end": 0.75,
        "adaptive_guidance": 0.99,
        "schedule": "karras",
        "eta": 0.5,
    }
    for job in denoise_jobs(image_request(n=2, **walk), ENCODED, CONTRACT):
        assert {name: getattr(job, name) for name in walk} == walk


MOMENTS = np.random.default_rng(0).standard_normal((1, 8, 4, 8), np.float32)
IMAGE = EncodedImage(LatentDistribution(MOMENTS[:, :4], MOMENTS[:, 4:]), np.eye(4, 8, dtype=np.bool_))


def test_each_picture_samples_the_latents_of_its_source_by_its_own_seed() -> None:
    jobs = denoise_jobs(replace(REQUEST, rng="torch", strength=0.5), ENCODED, CONTRACT, image=IMAGE)
    for k, job in enumerate(jobs):
        generator = torch.Generator("cpu").manual_seed(40 + k)
        sampled = DiagonalGaussianDistribution(torch.from_numpy(MOMENTS)).sample(generator).numpy()
        assert job.image_latents is not None
        np.testing.assert_allclose(
            job.image_latents, (sampled - SPACE.shift_factor) * SPACE.scaling_factor, rtol=0, atol=1e-5
        )
        assert job.mask is not None
        np.testing.assert_array_equal(job.mask, np.eye(4, 8))
        assert job.strength == 0.5
    without = denoise_jobs(REQUEST, ENCODED, CONTRACT)[0]
    assert (without.image_latents, without.mask, without.strength) == (None, None, 1.0)


def test_jobs_cross_processes() -> None:
    job = denoise_jobs(REQUEST, ENCODED, CONTRACT)[1]
    copy = pickle.loads(pickle.dumps(job))
    assert (copy.seed, copy.guidance, copy.height) == (41, 2.0, 4)
    np.testing.assert_array_equal(copy.rows["positive"]["hidden_states"], job.rows["positive"]["hidden_states"])


def test_depth_is_seen_by_every_row_and_the_picture_starts_the_walk() -> None:
    looking = CONTRACT.model_copy(update={"image_channels": (ImageChannels(source="depth", channels=1),)})
    depth = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 1, 4, 8)
    for job in denoise_jobs(REQUEST, ENCODED, looking, image=replace(IMAGE, depth=depth)):
        assert [row["image_channels"] is depth for row in job.rows.values()] == [True, True]
        assert job.image_latents is not None
        assert job.mask is IMAGE.mask


def test_latents_of_a_small_picture_are_sampled_before_the_noise_and_seen_twice_as_large() -> None:
    looks = (ImageChannels(source="low_resolution_latents", channels=4),)
    upscaler = CONTRACT.model_copy(update={"image_channels": looks})
    small = IMAGE.distribution
    assert small is not None
    halved = LatentDistribution(small.mean[:, :, :2, :4], small.log_variance[:, :, :2, :4])
    first, *_ = denoise_jobs(REQUEST, ENCODED, upscaler, image=EncodedImage(halved))
    assert (first.image_latents, first.mask, first.after) == (None, None, (1, 4, 2, 4))
    seen = first.rows["positive"]["image_channels"]
    drawn = sample(*halved, noise(first.seed, 0, (1, 4, 2, 4), first.rng))
    expected = torch.from_numpy(to_model(drawn, SPACE.scaling_factor, SPACE.shift_factor))
    larger = torch.nn.functional.interpolate(expected, scale_factor=2, mode="nearest")
    np.testing.assert_array_equal(seen, larger.numpy())
    (given,) = denoise_jobs(replace(REQUEST, n=1), ENCODED, upscaler, image=EncodedImage(None, latents=drawn))
    assert given.after == ()
    np.testing.assert_array_equal(given.rows["negative"]["image_channels"][:, :, ::2, ::2], drawn)

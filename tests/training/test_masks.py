import numpy as np
import pytest
import torch

from training.inpainting import InpaintingTasks
from training.inpainting_report import psnr_inside, seam
from training.masks import part_mask, training_mask


def test_a_part_is_never_nothing_nor_everything() -> None:
    masks = [part_mask(np.random.default_rng(seed), 128) for seed in range(200)]
    assert all(mask.shape == (128, 128) and set(np.unique(mask)) == {0, 1} for mask in masks)
    shares = np.array([mask.mean() for mask in masks])
    assert shares.min() > 0.02
    assert shares.max() < 0.7


def test_training_masks_are_everything_now_and_then() -> None:
    random = np.random.default_rng(0)
    whole = sum(training_mask(random, 32).all() for _ in range(500))
    assert 25 < whole < 85


def tasks() -> InpaintingTasks:
    pixels = torch.full((1, 3, 8, 8), 100 / 127.5 - 1)
    pixels[..., 4:] = 150 / 127.5 - 1
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., 2:6] = 1
    return InpaintingTasks(pixels, masks, ["thing"], ["thing"])


def test_what_is_outside_the_mask_does_not_count() -> None:
    drawn = tasks().pixels + 10 / 127.5
    expected = 20 * np.log10(255 / 10)
    torch.testing.assert_close(psnr_inside(drawn, tasks()), torch.tensor([expected]).float())
    pasted = tasks().pasted(drawn)
    torch.testing.assert_close(psnr_inside(pasted, tasks()), psnr_inside(drawn, tasks()))
    torch.testing.assert_close(pasted[..., :2], tasks().pixels[..., :2])


def test_a_seam_is_the_step_across_the_border_alone() -> None:
    true = tasks()
    assert seam(true.pixels, true).difference == 0
    assert seam(true.pixels, true).step == 0, "the picture's own edge lies inside the mask"
    drawn = true.pasted(true.pixels + 10 / 127.5)
    found = seam(drawn, true)
    assert found.step == pytest.approx(10, abs=1e-3)
    assert found.difference == pytest.approx(10, abs=1e-3)

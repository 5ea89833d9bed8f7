import numpy as np
import torch

from training.vae import pixels_to_tensor, psnr, tensor_to_pixels


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = pixels_to_tensor(pixels)
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.min() == -1
    assert tensor.max() == 1
    np.testing.assert_array_equal(tensor_to_pixels(tensor), pixels)


def test_psnr_is_that_of_its_definition_in_8_bit() -> None:
    ours = torch.zeros(1, 3, 4, 4)
    off_by_ten = torch.full((1, 3, 4, 4), 10 / 127.5)
    torch.testing.assert_close(psnr(off_by_ten, ours), torch.tensor([20 * np.log10(255 / 10)], dtype=torch.float32))

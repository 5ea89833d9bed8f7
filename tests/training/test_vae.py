import numpy as np
import torch

from training.settings import VaeSettings
from training.vae import new_vae, pixels_to_tensor, psnr, rescale, tensor_to_pixels


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


def test_rescaled_latents_mean_the_same_pictures() -> None:
    torch.manual_seed(0)
    vae = new_vae(VaeSettings(channels=(8, 16, 16))).eval()
    vae.register_to_config(scaling_factor=0.7)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist
        picture = vae.decode(before.mean).sample
        rescale(vae, 0.08333)
        after = vae.encode(pixels).latent_dist
        again = vae.decode(after.mean).sample
    assert vae.config.scaling_factor == 0.08333
    torch.testing.assert_close(after.mean * 0.08333, before.mean * 0.7)
    torch.testing.assert_close(after.std * 0.08333, before.std * 0.7)
    torch.testing.assert_close(again, picture, rtol=0, atol=1e-4)

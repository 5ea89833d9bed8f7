"""The mathematics of latent diffusion in NumPy: schedules, predictions, samplers, guidance, noise and latents."""

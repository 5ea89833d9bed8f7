"""Training of the bundled model: the VAE first, then the text encoder and denoiser on its latents."""

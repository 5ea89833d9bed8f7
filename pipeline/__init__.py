"""What each stage of the chain does, without Ray: text encoder, denoiser, VAE decoder and encoder, and all in one."""

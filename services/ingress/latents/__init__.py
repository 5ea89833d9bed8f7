"""The face of latents that are kept."""

"""Latents that outlive their request: kept on disk for a time, decoded again, compared."""

"""Latents that outlive their request: kept for a time, decoded again, compared."""

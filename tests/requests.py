"""Checked requests for tests, every field of which has a value."""

from dataclasses import replace
from typing import Any

from components.messages import ImageRequest

_REQUEST = ImageRequest(
    prompt="a",
    negative_prompt="",
    steps=3,
    guidance=2.0,
    sampler="ddim",
    schedule="default",
    rng="torch",
    seed=5,
    subseed=None,
    subseed_strength=0.0,
    n=1,
    width=64,
    height=64,
)


def image_request(**changes: Any) -> ImageRequest:
    """One guided picture of three steps, but for the fields that are given."""
    return replace(_REQUEST, **changes)

"""Samplers as coroutines: each yields a query, is sent the denoised estimate, and returns the final latents."""

from diffusion.samplers.coroutine import Draw, Query, Sampler
from diffusion.samplers.ddim import ddim
from diffusion.samplers.euler import euler
from diffusion.samplers.row import SamplerRow
from diffusion.samplers.table import SAMPLERS, find_sampler

__all__ = ["SAMPLERS", "Draw", "Query", "Sampler", "SamplerRow", "ddim", "euler", "find_sampler"]

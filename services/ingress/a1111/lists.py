"""What A1111's clients may choose among, and what there is none of."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter

from components.contract import Kind
from diffusion.samplers.aliases import SAMPLER_NAMES, SCHEDULE_NAMES
from diffusion.sigma_schedules import DEFAULT, KARRAS_RHO
from pipeline.request import RequestRules
from services.errors import PermissionDeniedError
from services.ingress.a1111.enlarging import FILTERS
from services.ingress.a1111.options import title_of
from services.ingress.a1111.second_pass import LATENT_UPSCALERS
from services.ingress.orders.capabilities import Capabilities, SamplerChoice, ScheduleChoice, capabilities
from services.ingress.orders.pinning import Pinning

_HASH_DIGITS = 10
_NO_RHO = -1.0
# lists of what there is none of, and what never changes
_FIXED: dict[str, Any] = {
    "/latent-upscale-modes": [{"name": name} for name in LATENT_UPSCALERS],
    "/embeddings": {"loaded": {}, "skipped": {}},
    "/loras": [],
    "/hypernetworks": [],
    "/face-restorers": [],
    "/realesrgan-models": [],
    "/prompt-styles": [],
    "/scripts": {"txt2img": [], "img2img": []},
    "/script-info": [],
    "/extensions": [],
    "/cmd-flags": {"api": True},
}
# the lists above and below are read anew for every request, so there is nothing to refresh
_CURRENT = ("/refresh-checkpoints", "/refresh-vae", "/refresh-embeddings", "/refresh-loras")
_NOT_HERE = ("/unload-checkpoint", "/reload-checkpoint")


@dataclass(frozen=True, slots=True)
class Lists:
    """What the lists need of the rest of the server."""

    pinning: Pinning
    rules: RequestRules

    def add_routes(self, router: APIRouter) -> None:
        """Add the routes to the face's."""
        for path, endpoint in (
            ("/samplers", self.samplers),
            ("/schedulers", self.schedulers),
            ("/sd-models", self.models),
            ("/sd-vae", self.decoders),
            ("/upscalers", self.upscalers),
            ("/memory", self.memory),
        ):
            router.add_api_route(path, endpoint, methods=["GET"])
        for path, found in _FIXED.items():
            router.add_api_route(path, _telling(found), methods=["GET"], name=path.strip("/"))
        for path in _CURRENT:
            router.add_api_route(path, _current, methods=["POST"], name=path.strip("/"))
        for path in _NOT_HERE:
            router.add_api_route(path, _refusing(path), methods=["POST"], name=path.strip("/"))

    async def samplers(self) -> list[dict[str, Any]]:
        """List the samplers that walk the checkpoint's noise schedule."""
        return [_sampler(one) for one in (await self._capabilities()).samplers]

    async def schedulers(self) -> list[dict[str, Any]]:
        """List the sigma schedules that at least one of the samplers walks."""
        return [_scheduler(one) for one in (await self._capabilities()).schedules]

    async def models(self) -> list[dict[str, Any]]:
        """List the bundle that is served."""
        live = self.pinning.record.live
        denoiser = live.pins[Kind.DENOISER]
        return [
            {
                "title": title_of(live),
                "model_name": live.bundle,
                "hash": denoiser.sha256[:_HASH_DIGITS],
                "sha256": denoiser.sha256,
                "filename": str(denoiser),
                "config": None,
            }
        ]

    async def decoders(self) -> list[dict[str, str]]:
        """List the versions of the VAE decoder, the live one first."""
        found = (await self._capabilities()).components[Kind.VAE_DECODER.value]
        names = [f"{one.name}/{one.version}" for one in found]
        return [{"model_name": name, "filename": name} for name in names]

    async def upscalers(self) -> list[dict[str, Any]]:
        """List what extra-single-image enlarges by."""
        return [
            {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4} for name in FILTERS
        ]

    async def memory(self) -> dict[str, Any]:
        """Tell of this node's memory; what the networks take is at `/metrics`."""
        return await asyncio.to_thread(_memory)

    async def _capabilities(self) -> Capabilities:
        return await asyncio.to_thread(capabilities, self.pinning.record, self.rules)


def _sampler(one: SamplerChoice) -> dict[str, Any]:
    names = (one.name, *SAMPLER_NAMES[one.name])
    return {"name": one.label, "aliases": [name for name in names if name != one.label], "options": {}}


def _scheduler(one: ScheduleChoice) -> dict[str, Any]:
    own = one.name == DEFAULT
    names = (one.name, *SCHEDULE_NAMES[one.name])
    return {
        "name": one.label.lower() if own else one.name,
        "label": one.label,
        "aliases": [name for name in names if name not in (one.label, one.label.lower() if own else one.name)],
        "default_rho": KARRAS_RHO if one.name == "karras" else _NO_RHO,
        "need_inner_model": False,
    }


def _memory() -> dict[str, Any]:
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (page * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return {
        "ram": {"free": free, "used": total - free, "total": total},
        "cuda": {"error": "the networks run in processes of their own; their figures are at /metrics"},
    }


def _telling(found: Any) -> Callable[[], Any]:
    async def tell() -> Any:
        """Tell what is always the same here."""
        return found

    return tell


async def _current() -> None:
    """Do nothing: the lists are always current."""


def _refusing(path: str) -> Callable[[], Any]:
    async def refuse() -> None:
        """Refuse: the checkpoint is everybody's."""
        raise PermissionDeniedError(
            f"{path.strip('/')}: is not done here; which versions are loaded is the operators' to say"
        )

    return refuse

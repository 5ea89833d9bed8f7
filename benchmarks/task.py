"""What every path is asked for: the same picture of the same bundle, with the same sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.contract import PARTS, Contract, Kind
from components.folder import ComponentFolder
from components.messages import ImageRequest
from pipeline.bundle import open_bundle
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.skipping import SKIPPING
from runtime.settings import SessionSettings
from services.stage_args import DenoiserArgs, TextEncoderArgs, VaeDecoderArgs

PROMPT = "a red apple, 3d style"
SEED = 1


@dataclass(frozen=True, slots=True)
class Task:
    """One picture; `sessions` are the server's own defaults, so that all paths have the same threads."""

    bundle: Path
    folders: Mapping[Kind, ComponentFolder]
    sessions: Mapping[Kind, SessionSettings]
    request: ImageRequest

    def contract(self, kind: Kind) -> Contract:
        """The contract of one of the bundle's components."""
        return self.folders[kind].manifest.contract


def read_task(bundle: Path, steps: int | None) -> Task:
    """Open a bundle and ask for one picture of its own size; without `steps`, the request rules' default.

    Raises:
        ComponentError: a component is missing or damaged, or they do not fit together.
        RequestError: the bundle allows no such number of steps.
    """
    path = bundle.expanduser().absolute()
    folders = open_bundle(path, PARTS)
    sessions = {
        Kind.TEXT_ENCODER: TextEncoderArgs().session,
        Kind.DENOISER: DenoiserArgs().session,
        Kind.VAE_DECODER: VaeDecoderArgs().session,
    }
    fields = RequestFields(prompt=PROMPT, seed=SEED, steps=steps)
    request = check_request(fields, folders[Kind.DENOISER].manifest.contract, RequestRules())
    return Task(path, folders, sessions, request)


def asked_fields(request: ImageRequest) -> dict[str, Any]:
    """Every field of the request that says something, by the name that the library and the server have for it."""
    texts = {name: getattr(request, name) for name in ("prompt", "negative_prompt", "weighting", "clip_skip")}
    fields = {**request.parts(), **texts}
    # of a picture to start from, and here there is none
    del fields["strength"]
    if not request.skip_layers:
        # how layers are skipped, and here none are
        fields = {name: value for name, value in fields.items() if name not in SKIPPING}
    sides = {"width": request.width, "height": request.height}
    return {name: value for name, value in {**fields, **sides}.items() if value not in (None, ())}

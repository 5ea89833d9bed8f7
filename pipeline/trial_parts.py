"""The components that a trial opens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.contract import Contract, Kind
from components.folder import ComponentFolder
from components.trial import CHAIN, TrialOrder
from pipeline.adapter import Adapter
from pipeline.controlnet import ControlNet
from pipeline.denoiser import Denoiser
from pipeline.text_encoder import TextEncoder, third_text_encoder
from pipeline.vae_decoder import VaeDecoder
from pipeline.vae_encoder import VaeEncoder
from runtime.session import Session
from runtime.settings import SessionSettings

Stage = TextEncoder | Denoiser | VaeDecoder | VaeEncoder | ControlNet | Adapter
Stages = dict[Kind, Stage | None]

_STAGES: dict[Kind, Callable[[ComponentFolder, SessionSettings], Stage]] = {
    Kind.TEXT_ENCODER: TextEncoder,
    Kind.DENOISER: Denoiser,
    Kind.VAE_DECODER: VaeDecoder,
    Kind.VAE_ENCODER: VaeEncoder,
    Kind.CONTROLNET: ControlNet,
    Kind.ADAPTER: Adapter,
    Kind.THIRD_TEXT_ENCODER: third_text_encoder,
}


@dataclass(frozen=True, slots=True)
class Part:
    """An opened component; `stage` is None for a kind that no stage drives."""

    folder: ComponentFolder
    session: Session
    stage: Stage | None

    @classmethod
    def open(cls, path: Path, order: TrialOrder) -> "Part":
        """Open a component folder by its kind's stage.

        Raises:
            ComponentError: the folder is damaged, or its contract is none that its stage can drive.
            RuntimeFault: as `Session.open`.
        """
        folder = ComponentFolder.open(path)
        settings = SessionSettings(threads=order.threads, provider=order.provider)
        make = _STAGES.get(folder.manifest.contract.kind)
        if make is None:
            return cls(folder, Session.open(folder, settings), None)
        stage = make(folder, settings)
        # a second session of the same weights only to reach this one would double the memory
        return cls(folder, stage._session, stage)

    @property
    def contract(self) -> Contract:
        """What it takes and gives."""
        return self.session.contract

    @property
    def decodes(self) -> bool:
        """Whether it makes pictures of latents."""
        return any(spec.name == "pixels" for spec in self.contract.outputs)


def missing_beside(kind: Kind, order: TrialOrder) -> list[Kind]:
    """The kinds that a chain with one of `kind` lacks."""
    return [other for other in CHAIN if other != kind and other not in order.beside]


def open_beside(kind: Kind, order: TrialOrder) -> Stages:
    """The stages of a chain but the one of `kind`; none may be missing.

    Raises:
        ComponentError: as `Part.open`.
        RuntimeFault: as `Part.open`.
    """
    return {other: Part.open(order.beside[other], order).stage for other in CHAIN if other != kind}

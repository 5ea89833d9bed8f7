"""A server of the toy model whose denoiser is held, and whose registry has what holds it."""

from dataclasses import replace

from components.contract import Kind
from components.reference import ComponentRef
from services.messages import LiveModel
from tests.services.conftest import record_of
from tests.services.controlled import ADAPTER, CONTROLLED, CONTROLNET, FOREIGN_LORA, IMAGE_ENCODER, LORA, NARROW
from tests.services.ingress.conftest import Server

EDGES = ComponentRef(name="toy.controlnet.edges", version=1, sha256="a" * 64)
LINES = ComponentRef(name="toy.adapter.lines", version=2, sha256="b" * 64)
STYLE, INK = (ComponentRef(name=f"toy.lora.{name}", version=1, sha256="e" * 64) for name in ("style", "ink"))
ALIKE = ComponentRef(name="toy.image_encoder", version=1, sha256="9" * 64)
# for another denoiser
_FOREIGN = ComponentRef(name="toy.lora.foreign", version=1, sha256="f" * 64)
_NARROW = ComponentRef(name="toy.controlnet.narrow", version=1, sha256="c" * 64)


def with_controls(server: Server, live: LiveModel) -> None:
    """Have a server serve the toy model with such a denoiser."""
    contracts = {**live.contracts, Kind.DENOISER: CONTROLLED}
    server.pinning.record = record_of(replace(live, contracts=contracts))
    for kind, pin in live.pins.items():
        server.controller.versions[str(pin)] = (pin, contracts[kind])
    for pin, contract in (
        (EDGES, CONTROLNET),
        (LINES, ADAPTER),
        (STYLE, LORA),
        (INK, LORA),
        (ALIKE, IMAGE_ENCODER),
        (_NARROW, NARROW),
        (_FOREIGN, FOREIGN_LORA),
    ):
        for selector in (str(pin), f"{pin.name}@production"):
            server.controller.versions[selector] = (pin, contract)

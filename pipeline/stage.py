"""How every stage opens its component."""

from dataclasses import dataclass

from components.contract import CONTROL_PREFIXES, PHRASE, TEXT_KINDS, Contract, Kind, LatentSpace
from components.errors import ComponentError
from components.folder import ComponentFolder
from runtime.session import Session
from runtime.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class Interface:
    """What a stage calls its component's inputs and outputs.

    What conditions a denoiser comes on top, under the names that its contract speaks of, and the outputs of a text
    encoder and of what is added within a denoiser.
    """

    kind: Kind
    inputs: frozenset[str]
    outputs: frozenset[str]


def open_session(folder: ComponentFolder, settings: SessionSettings, interface: Interface) -> Session:
    """Open the session of a component that a stage can drive.

    Raises:
        ComponentError: the component is of another kind, or names its inputs or outputs otherwise.
        RuntimeFault: as `Session.open`.
    """
    contract = folder.manifest.contract
    if contract.kind != interface.kind:
        raise ComponentError(f"{folder.path.name}: is a {contract.kind}, must be a {interface.kind}")
    conditioning = {array.name for array in contract.conditioning}
    inputs, outputs = interface.inputs, interface.outputs
    if interface.kind in TEXT_KINDS:
        # that of a phrase is for denoisers that take boxes
        phrase = {spec.name for spec in contract.outputs if spec.name == PHRASE}
        outputs = outputs | phrase | conditioning.union(*contract.skipped_layers)
    else:
        inputs = inputs | conditioning | contract.inputs_beside_latents
    if (prefix := CONTROL_PREFIXES.get(contract.kind)) is not None:
        outputs = outputs | {spec.name for spec in contract.outputs if spec.name.startswith(prefix)}
    _check_names(contract, "inputs", contract.required_inputs, inputs)
    _check_names(contract, "outputs", {spec.name for spec in contract.outputs}, outputs)
    return Session.open(folder, settings)


def latent_space(session: Session) -> LatentSpace:
    """The latent space of a component that has one.

    Raises:
        ComponentError: it has none.
    """
    space = session.contract.latent_space
    if space is None:
        raise ComponentError(f"{session.contract.kind}: its contract has no latent space")
    return space


def _check_names(contract: Contract, role: str, found: set[str], wanted: frozenset[str]) -> None:
    if found != wanted:
        raise ComponentError(
            f"{contract.kind}: its {role} are {', '.join(sorted(found))}, must be {', '.join(sorted(wanted))}"
        )

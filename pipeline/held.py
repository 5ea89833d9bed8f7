"""How control pictures hold a walk: which do at a step, and the sum of what they add within the denoiser."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from components.compatibility import compatible
from components.contract import CONTROL_PREFIXES, Contract, Kind, shape_text
from components.dimensions import size_of
from components.messages import Arrays, ControlFeatures, ControlPicture, DenoiseJob, FloatArray
from pipeline.controlnet import ControlNet
from pipeline.errors import refuse
from pipeline.planes import unit_planes
from runtime.errors import RuntimeFault
from runtime.interrupt import Interrupt


class ControlNetFault(RuntimeFault):
    """A ControlNet could not run, so that neither could the denoiser that it holds."""

    def __init__(self, net: ControlNet, words: str) -> None:
        super().__init__(words)
        self.net = net


class _ByNet(NamedTuple):
    """A ControlNet, and the picture [1, 3, H, W] that it looks at for one walk."""

    net: ControlNet
    image: FloatArray
    control: ControlPicture


class Held:
    """What holds one walk: ControlNets with their pictures, and the features of adapters, all checked."""

    def __init__(self, by_nets: Sequence[_ByNet] = (), features: Sequence[ControlFeatures] = ()) -> None:
        """Take what `held` made."""
        self._by_nets = by_nets
        self._features = [(each, _scaled(each)) for each in features]

    def nets(self, step: int, steps: int) -> list[_ByNet]:
        """The ControlNets that hold a step, each as often as pictures are given to it."""
        return [each for each in self._by_nets if each.control.holds(step, steps)]

    def nets_a_step(self, steps: int) -> float:
        """How many ControlNets run in a step of a walk, on average."""
        return sum(len(self.nets(step, steps)) for step in range(steps)) / steps

    def features(self, step: int, steps: int) -> list[Arrays]:
        """The features, scaled, that hold a step, each array [1, ...]."""
        return [arrays for each, arrays in self._features if each.holds(step, steps)]


class Walking(Protocol):
    """As much as is known here of a track."""

    held: Held

    @property
    def step(self) -> int:
        """The step that it is in."""
        ...

    @property
    def steps(self) -> int:
        """How many it walks."""
        ...


def held(job: DenoiseJob, controlnets: Sequence[ControlNet], contract: Contract) -> Held:
    """What holds the walk of a job, with a ControlNet for each of its control pictures, in their order.

    Raises:
        RequestError: a ControlNet is missing or not for the denoiser of that contract, or a picture or features are of
            another size than what is drawn.
    """
    if len(controlnets) != len(job.controls):
        raise refuse("controls", f"{len(job.controls)} pictures", f"one for each of {len(controlnets)} ControlNets")
    by_nets = []
    for net, control in zip(controlnets, job.controls, strict=True):
        require_control(net.contract, contract)
        shape = (1, job.height * net.space.downscale, job.width * net.space.downscale, 3)
        if control.pixels.shape != shape or control.pixels.dtype != np.uint8:
            found = f"{control.pixels.dtype} {list(control.pixels.shape)}"
            raise refuse("controls", found, f"uint8 {shape_text(shape)} for this size")
        by_nets.append(_ByNet(net, unit_planes(control.pixels), control))
    for features in job.features:
        _check_features(features.arrays, job, contract)
    return Held(by_nets, job.features)


def is_controllable(denoiser: Contract, kinds: Collection[Kind] = tuple(CONTROL_PREFIXES)) -> bool:
    """Whether a denoiser takes what components of one of these kinds add within it."""
    prefixes = tuple(CONTROL_PREFIXES[kind] for kind in kinds)
    return any(spec.name.startswith(prefixes) for spec in denoiser.inputs)


def require_control(control: Contract, denoiser: Contract, field: str = "controls") -> None:
    """Refuse a ControlNet or an adapter that a denoiser cannot be held by; a request names it by `field`.

    Raises:
        RequestError: naming every mismatch.
    """
    if not is_controllable(denoiser, (control.kind,)):
        raise refuse(field, control.kind.value, f"left out: the denoiser takes nothing of a {control.kind}")
    if found := compatible(control, denoiser):
        raise refuse(field, control.kind.value, f"one for this denoiser: {'; '.join(found)}")


def added_within(tracks: Sequence[Walking], asked: Sequence[Arrays], interrupt: Interrupt | None) -> list[Arrays]:
    """What control pictures add within the denoiser for each track's rows, in their next evaluation; often nothing.

    `asked` is what the denoiser is asked, arrays [rows, ...] of each track. Every ControlNet runs once, for all rows
    that want it. What several add to one row is summed up in the order of its request, whoever shares the run.

    Raises:
        ControlNetFault: a ControlNet could not run, or `interrupt` broke it off.
    """
    nets = [track.held.nets(track.step, track.steps) for track in tracks]
    places: dict[ControlNet, list[tuple[int, int]]] = {}
    for number, wanted in enumerate(nets):
        for place, each in enumerate(wanted):
            places.setdefault(each.net, []).append((number, place))
    residuals: dict[tuple[int, int], Arrays] = {}
    for net, found in places.items():
        entries = [nets[number][place] for number, place in found]
        try:
            run = net.residuals(
                [asked[number] for number, _ in found],
                [entry.image for entry in entries],
                [entry.control.scale for entry in entries],
                interrupt,
            )
        except RuntimeFault as fault:
            raise ControlNetFault(net, str(fault)) from fault
        residuals |= dict(zip(found, run, strict=True))
    return [
        {
            **_sum([residuals[number, place] for place in range(len(nets[number]))]),
            **_repeated(_sum(track.held.features(track.step, track.steps)), len(asked[number]["latents"])),
        }
        for number, track in enumerate(tracks)
    ]


def _sum(parts: Sequence[Arrays]) -> Arrays:
    total: dict[str, FloatArray] = {}
    for part in parts:
        for name, array in part.items():
            total[name] = total[name] + array if name in total else array
    return total


def _repeated(arrays: Arrays, rows: int) -> Mapping[str, FloatArray]:
    return {name: np.repeat(array, rows, axis=0) for name, array in arrays.items()}


def _scaled(features: ControlFeatures) -> Arrays:
    return {name: array * np.float32(features.scale) for name, array in features.arrays.items()}


def _check_features(arrays: Arrays, job: DenoiseJob, contract: Contract) -> None:
    prefix = CONTROL_PREFIXES[Kind.ADAPTER]
    sizes = {"batch": 1, "height": job.height, "width": job.width}
    wanted = {
        spec.name: tuple(size_of(dim, sizes) for dim in spec.shape)
        for spec in contract.inputs
        if spec.name.startswith(prefix)
    }
    if arrays.keys() != wanted.keys():
        raise refuse("controls", ", ".join(sorted(arrays)), f"features {', '.join(sorted(wanted)) or 'left out'}")
    for name, array in arrays.items():
        if array.shape != wanted[name] or array.dtype != np.float32:
            found = f"{name} {array.dtype} {list(array.shape)}"
            raise refuse("controls", found, f"float32 {list(wanted[name])} for this size")

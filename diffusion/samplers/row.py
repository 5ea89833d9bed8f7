"""One sampler of the table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from diffusion.arrays import Array
from diffusion.errors import DiffusionError
from diffusion.flow import FlowSchedule
from diffusion.plan import Conventions, plan, plan_flow, taken_schedules
from diffusion.prediction import PREDICTIONS
from diffusion.samplers.coroutine import Draw, Sampler
from diffusion.schedule import NoiseSchedule
from diffusion.sigma_schedules import DEFAULT
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory

SamplerFactory: TypeAlias = Callable[[Array, Trajectory, float, Draw | None], Sampler]


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One sampler of the table: its coroutine and the conventions of the diffusers scheduler of that name.

    `eta` is the share of noise where the caller names none; only where `takes_eta` another can be asked for. `draws`
    says whether it needs a source of noise at its own eta. `flow` samplers walk a FlowSchedule, the others a
    NoiseSchedule. `order` is that of convergence: the error falls with the steps to this power; None where noise is
    drawn. A multistep method's is that of its first steps, which have no past yet. `wide_answers` samplers want the
    estimates that they are sent in float64: in float32 one from a large sigma has lost the noise they extrapolate.
    """

    name: str
    factory: SamplerFactory
    conventions: Conventions
    takes_eta: bool = False
    eta: float = 0.0
    draws: bool = False
    flow: bool = False
    order: int | None = None
    wide_answers: bool = False

    @property
    def sigma_schedules(self) -> tuple[str, ...]:
        """The names of the sigma schedules that it walks."""
        return taken_schedules(self.conventions, self.flow)

    @property
    def prediction_types(self) -> tuple[str, ...]:
        """The names of the prediction types that it walks."""
        return tuple(name for name in PREDICTIONS if (name == "flow") == self.flow)

    def trajectory(
        self,
        schedule: NoiseSchedule | FlowSchedule,
        spacing: Spacing,
        steps: int,
        *,
        sigma_schedule: str = DEFAULT,
        prediction_type: str = "epsilon",
        image_tokens: int | None = None,
    ) -> Trajectory:
        """Lay out `steps` steps on a checkpoint's schedule; raises DiffusionError naming the field.

        `spacing` says nothing to a flow, `prediction_type` only to PNDM, `image_tokens` only to a dynamic flow shift.
        """
        if isinstance(schedule, FlowSchedule):
            if not self.flow:
                raise DiffusionError("sampler", self.name, "flow_euler or flow_heun for a flow-matching checkpoint")
            return plan_flow(schedule, steps, self.conventions, sigma_schedule, image_tokens)
        if self.flow:
            raise DiffusionError("sampler", self.name, "another: this checkpoint is no flow-matching one")
        laid_out = plan(schedule, spacing, steps, self.conventions, sigma_schedule)
        return replace(laid_out, prediction_type=prediction_type)

    def start(
        self, latents: Array, trajectory: Trajectory, eta: float | None = None, draw: Draw | None = None
    ) -> Sampler:
        """Make the coroutine; raises DiffusionError for an eta that it cannot honour, or without `draw`."""
        if eta is None:
            eta = self.eta
        elif eta != 0 and not self.takes_eta:
            raise DiffusionError("eta", eta, f"0 for {self.name}, which has no share of noise to choose")
        return self.factory(latents, trajectory, eta, draw)

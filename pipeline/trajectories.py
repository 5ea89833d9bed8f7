"""The walks that a denoiser's contract allows."""

from dataclasses import dataclass

import numpy as np

from components.contract import Contract
from components.contract import FlowSchedule as WrittenFlow
from components.contract import NoiseSchedule as WrittenNoise
from components.errors import ComponentError
from diffusion.errors import DiffusionError
from diffusion.flow import DynamicShift, FlowSchedule
from diffusion.prediction import Prediction, find_prediction, quarter_log
from diffusion.samplers import Query, SamplerRow, find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.sigma_schedules import DEFAULT
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory
from pipeline.errors import RequestError

# They take a sigma schedule of a request, but their schedulers in diffusers have no field for one: made from a
# checkpoint's config that names karras, they walk plainly there, and so here.
_WITHOUT_FIELD = frozenset({"euler_ancestral", "flow_heun"})


@dataclass(frozen=True, slots=True)
class Trajectories:
    """A contract's schedule in the terms of the mathematics.

    `sigma_schedule` is the checkpoint's own. One image token covers `patch` by `patch` latent pixels, and `latent_size`
    is the height and width of latents that the denoiser was trained for. `tells_sigma` says that the network is told
    sigma in place of the training timestep.
    """

    schedule: NoiseSchedule | FlowSchedule
    spacing: Spacing
    prediction: Prediction
    sigma_schedule: str
    latent_size: tuple[int, int]
    patch: int = 1
    tells_sigma: bool = False

    @classmethod
    def of(cls, contract: Contract) -> "Trajectories":
        """Read a denoiser's contract.

        Raises:
            ComponentError: the contract has no schedule, or one that cannot be walked.
        """
        size = contract.latent_size
        try:
            if contract.flow_schedule is not None and size is not None:
                return _of_flow(contract.flow_schedule, size)
            if contract.noise_schedule is not None and size is not None:
                return _of_noise(contract.noise_schedule, size)
        except DiffusionError as error:
            raise ComponentError(f"{contract.kind}: noise schedule: {error}") from None
        raise ComponentError(f"{contract.kind}: its contract has no noise schedule")

    def lay_out(
        self,
        sampler: str,
        steps: int,
        schedule: str,
        latent_size: tuple[int, int] | None = None,
        *,
        strength: float = 1.0,
        between: tuple[float, float] = (0.0, 1.0),
    ) -> Trajectory:
        """The walk of `steps` steps by the sampler and on the sigma schedule of those names, its last share `strength`.

        `between` are the fractions of training's timesteps from which on, and up to which, it is walked.

        "default" is the checkpoint's own sigma schedule where the sampler's scheduler in diffusers would read it, else
        the sampler's. A dynamic flow shift is that of latents of this height and width, of training's if not given.

        Raises:
            RequestError: the sampler or schedule is unknown, or this checkpoint's schedule has no such walk, or one
                that leaves no step at this strength.
        """
        height, width = self.latent_size if latent_size is None else latent_size
        try:
            row = find_sampler(sampler)
            whole = row.trajectory(
                self.schedule,
                self.spacing,
                steps,
                sigma_schedule=self._own(row) if schedule == DEFAULT else schedule,
                prediction_type=self.prediction.name,
                image_tokens=max(1, height // self.patch) * max(1, width // self.patch),
            )
            trained = self.schedule.num_train_timesteps
            trajectory = whole.of_strength(strength, steps).between(*between, trained)
            self.prediction.check(trajectory)
        except DiffusionError as error:
            raise RequestError(error.field, str(error)) from None
        return trajectory

    def told(self, query: Query) -> np.float32:
        """What the network is told of a query's noise."""
        return quarter_log(query.sigma) if self.tells_sigma else np.float32(query.timestep)

    def _own(self, row: SamplerRow) -> str:
        takes_it = row.conventions.takes_schedules and row.name not in _WITHOUT_FIELD
        return self.sigma_schedule if takes_it else DEFAULT


def noise_schedule(written: WrittenNoise) -> NoiseSchedule:
    """A contract's noise schedule in the terms of the mathematics; raises DiffusionError where it is none."""
    return NoiseSchedule(
        num_train_timesteps=written.num_train_timesteps,
        beta_schedule=written.beta_schedule,
        beta_start=written.beta_start,
        beta_end=written.beta_end,
        rescale_betas_zero_snr=written.rescale_betas_zero_snr,
    )


def _of_noise(written: WrittenNoise, latent_size: tuple[int, int]) -> Trajectories:
    schedule = noise_schedule(written)
    spacing = Spacing(
        timestep_spacing=written.timestep_spacing,
        steps_offset=written.steps_offset,
        set_alpha_to_one=written.set_alpha_to_one,
        final_sigmas_type=written.final_sigmas_type,
        skip_prk_steps=written.skip_prk_steps,
        interpolation_type=written.interpolation_type,
    )
    prediction = find_prediction(written.prediction_type)
    tells_sigma = written.timestep_type == "continuous"
    return Trajectories(schedule, spacing, prediction, written.sigma_schedule, latent_size, tells_sigma=tells_sigma)


def _of_flow(written: WrittenFlow, latent_size: tuple[int, int]) -> Trajectories:
    dynamic = None
    if written.dynamic is not None:
        dynamic = DynamicShift(
            base_shift=written.dynamic.base_shift,
            max_shift=written.dynamic.max_shift,
            base_image_seq_len=written.dynamic.base_image_seq_len,
            max_image_seq_len=written.dynamic.max_image_seq_len,
            time_shift_type=written.dynamic.time_shift_type,
        )
    schedule = FlowSchedule(written.num_train_timesteps, written.shift, dynamic)
    patch = 1 if written.dynamic is None else written.dynamic.patch
    return Trajectories(schedule, Spacing(), find_prediction("flow"), written.sigma_schedule, latent_size, patch)

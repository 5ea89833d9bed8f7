"""The walks that a denoiser's contract allows."""

from dataclasses import dataclass

from components.contract import Contract
from components.errors import ComponentError
from diffusion.errors import DiffusionError
from diffusion.prediction import Prediction, find_prediction
from diffusion.samplers import find_sampler
from diffusion.schedule import NoiseSchedule
from diffusion.spacing import Spacing
from diffusion.trajectory import Trajectory
from pipeline.errors import RequestError


@dataclass(frozen=True, slots=True)
class Trajectories:
    """A contract's noise schedule in the terms of the mathematics."""

    schedule: NoiseSchedule
    spacing: Spacing
    prediction: Prediction

    @classmethod
    def of(cls, contract: Contract) -> "Trajectories":
        """Read a denoiser's contract.

        Raises:
            ComponentError: the contract has no noise schedule, or one that cannot be walked.
        """
        written = contract.noise_schedule
        if written is None:
            raise ComponentError(f"{contract.kind}: its contract has no noise schedule")
        try:
            schedule = NoiseSchedule(
                num_train_timesteps=written.num_train_timesteps,
                beta_schedule=written.beta_schedule,
                beta_start=written.beta_start,
                beta_end=written.beta_end,
                rescale_betas_zero_snr=written.rescale_betas_zero_snr,
            )
            spacing = Spacing(
                timestep_spacing=written.timestep_spacing,
                steps_offset=written.steps_offset,
                set_alpha_to_one=written.set_alpha_to_one,
            )
            return cls(schedule, spacing, find_prediction(written.prediction_type))
        except DiffusionError as error:
            raise ComponentError(f"{contract.kind}: noise schedule: {error}") from None

    def lay_out(self, sampler: str, steps: int, schedule: str) -> Trajectory:
        """The walk of `steps` steps by the sampler and on the sigma schedule of those names.

        Raises:
            RequestError: the sampler or schedule is unknown, or this checkpoint's schedule has no such walk.
        """
        try:
            trajectory = find_sampler(sampler).trajectory(
                self.schedule, self.spacing, steps, sigma_schedule=schedule, prediction_type=self.prediction.name
            )
            self.prediction.check(trajectory)
        except DiffusionError as error:
            raise RequestError(error.field, str(error)) from None
        return trajectory

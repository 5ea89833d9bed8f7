"""The denoiser's stage: noise to latents, one U-Net run for all rows that wait."""

from collections.abc import Sequence
from functools import partial
from itertools import count

import numpy as np

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import Arrays, DenoiseJob, FloatArray, Pixels, Snapshot
from diffusion.errors import DiffusionError
from diffusion.inpainting import inpaint
from diffusion.noise import NoiseSource, noise, slerp
from diffusion.preview import project
from diffusion.samplers import Sampler, SamplerRow, find_sampler
from diffusion.trajectory import Trajectory
from pipeline.errors import RequestError, refuse
from pipeline.stage import Interface, latent_space, open_session
from pipeline.track import Track, guidance_of
from pipeline.trajectories import Trajectories
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.DENOISER, frozenset({"latents", "timestep"}), frozenset({"prediction"}))


class Denoiser:
    """Runs the U-Net for any mixture of tracks; usable from any number of threads at once, each track from one."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no denoiser, or its noise schedule cannot be walked.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self._trajectories = Trajectories.of(self._session.contract)
        self.space = latent_space(self._session)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def warm_up(self) -> None:
        """Run the U-Net on zeros, as opening it did; what a sound session can always do.

        Raises:
            RuntimeFault: the session could not run.
        """
        self._session.warm_up()

    def begin(self, job: DenoiseJob, snapshot: Snapshot | None = None) -> Track:
        """Start a track, or go on from a snapshot of one; nothing runs yet.

        Raises:
            RequestError: the sampler, its eta or the number of steps is none of this checkpoint's, the height or width
                is none of this network's, the noise, image latents, mask, conditioning or snapshot has another shape
                than the job and the contract say, there is a mask or a strength under 1 without image latents, or
                guidance, strength, noise or seed are outside their limits.
        """
        self._check_size(job)
        size = (job.height, job.width)
        trajectory = self._trajectories.lay_out(job.sampler, job.steps, job.schedule, size, strength=job.strength)
        shape = (1, self.space.channels, *size)
        conditioning = self._conditioning(job)
        _check_image(job, shape)
        try:
            row = find_sampler(job.sampler)
            sampler = _start(job, row, trajectory, shape)
            guidance = guidance_of(job)
        except DiffusionError as error:
            raise RequestError(error.field, str(error)) from None
        prediction = self._trajectories.prediction
        track = Track(sampler, trajectory.steps, prediction, conditioning, guidance, row.wide_answers)
        if snapshot is not None:
            if any(estimate.shape != shape for estimate in snapshot.estimates):
                raise refuse("snapshot", "estimates of another shape", f"of estimates {list(shape)}")
            if len(snapshot.estimates) > track.evaluations:
                raise refuse("snapshot", len(snapshot.estimates), f"of at most {track.evaluations} estimates")
            track.resume(snapshot)
        return track

    def advance(self, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        """Run the U-Net once for all rows of `tracks`, and send each sampler its answer.

        Every track is moved by one evaluation. They must be of one signature, not done, and each there once.

        Raises:
            RuntimeFault: the session could not run, or `interrupt` broke it off; no track has moved.
        """
        assert len({track.signature for track in tracks}) == 1, "tracks of several signatures, or none, in one run"
        assert len(set(map(id, tracks))) == len(tracks), "a track twice in one run"
        conditioning = [track.conditioning for track in tracks]
        feeds = {name: _joined([arrays[name] for arrays in conditioning]) for name in conditioning[0]}
        feeds["latents"] = _joined([track.network_input() for track in tracks])
        rows = [track.rows for track in tracks]
        feeds["timestep"] = np.repeat(np.array([track.query.timestep for track in tracks], dtype=np.float32), rows)
        prediction = self._session.run(feeds, interrupt)["prediction"]
        start = 0
        for track, count_of_rows in zip(tracks, rows, strict=True):
            track.answer(prediction[start : start + count_of_rows])
            start += count_of_rows

    def denoise(self, job: DenoiseJob) -> FloatArray:
        """Walk one job to its end and return its latents [1, channels, height, width], in the denoiser's scale.

        Raises:
            RequestError: as `begin`.
            RuntimeFault: as `advance`.
        """
        track = self.begin(job)
        while not track.done:
            self.advance([track])
        return track.latents

    def preview(self, estimate: FloatArray) -> Pixels | None:
        """A small picture [height, width, 3], 0..255, of an estimate [1, channels, height, width] of the latents.

        One pixel for each latent pixel; None where the contract holds no projection.
        """
        projection = self.contract.preview
        return None if projection is None else project(estimate, projection.factors, projection.bias)[0]

    def _check_size(self, job: DenoiseJob) -> None:
        multiple = self.contract.latent_multiple
        for field, side in (("height", job.height), ("width", job.width)):
            if side % multiple:
                raise refuse(field, side, f"a multiple of {multiple}")

    def _conditioning(self, job: DenoiseJob) -> tuple[Arrays, ...]:
        negative = job.negative
        if (negative is None) != (job.guidance == 1):
            raise refuse("guidance", job.guidance, "1 without a negative conditioning, another number with one")
        self._check_conditioning("conditioning", job.conditioning)
        if negative is None:
            return (job.conditioning,)
        self._check_conditioning("negative", negative)
        if any(negative[name].shape != array.shape for name, array in job.conditioning.items()):
            raise refuse("negative", "another token count", "of the conditioning's shape")
        return negative, job.conditioning

    def _check_conditioning(self, field: str, arrays: Arrays) -> None:
        wanted = {array.name: array.width for array in self.contract.conditioning}
        found = {name: array.shape[-1] for name, array in arrays.items()}
        if found != wanted or any(array.ndim != 3 or array.shape[0] != 1 for array in arrays.values()):
            shapes = {name: list(array.shape) for name, array in arrays.items()}
            limit = ", ".join(f"{name} [1, tokens, {width}]" for name, width in wanted.items())
            raise refuse(field, shapes, limit)


def _check_image(job: DenoiseJob, shape: tuple[int, ...]) -> None:
    latents = job.image_latents
    if latents is None:
        if job.mask is not None:
            raise refuse("mask", list(job.mask.shape), "left out without image latents")
        if job.strength != 1:
            raise refuse("strength", job.strength, "1 without image latents")
    elif latents.shape != shape or latents.dtype != np.float32:
        raise refuse("image_latents", f"{latents.dtype} {list(latents.shape)}", f"float32 {list(shape)} for this size")


def _start(job: DenoiseJob, row: SamplerRow, trajectory: Trajectory, shape: tuple[int, ...]) -> Sampler:
    source = NoiseSource(job.seed, shape, job.rng)
    # the draws are those of diffusers: the sample of the picture's latents, the noise, the sample of the latents of
    # the picture without what is drawn anew, which only networks of nine channels look at, and then the sampler's
    first = 0 if job.image_latents is None else 1
    later_draws = map(source.draw, count(first + 1 if job.mask is None else first + 2))
    initial = _initial_noise(job, source, first, shape)
    if job.image_latents is None or (job.mask is not None and job.strength == 1):
        latents = trajectory.initial_latents(initial)
    else:
        latents = trajectory.noised(job.image_latents, initial)
    sampler = row.start(latents, trajectory, job.eta, partial(next, later_draws))
    if job.image_latents is None or job.mask is None:
        return sampler
    return inpaint(sampler, trajectory, job.image_latents, initial, job.mask)


def _initial_noise(job: DenoiseJob, source: NoiseSource, draw: int, shape: tuple[int, ...]) -> FloatArray:
    own = source.draw(draw) if job.noise is None else job.noise
    if own.shape != shape or own.dtype != np.float32:
        raise refuse("noise", f"{own.dtype} {list(own.shape)}", f"float32 {list(shape)} for this size")
    return own if job.subseed is None else slerp(own, noise(job.subseed, draw, shape, job.rng), job.subseed_strength)


def _joined(arrays: Sequence[FloatArray]) -> FloatArray:
    # one track alone is fed as it is: no copy
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

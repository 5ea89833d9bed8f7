"""The denoiser's stage: noise to latents, one U-Net run for all rows that wait."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import count

import numpy as np

from components.contract import CONTROL_PREFIXES, Kind, shape_text
from components.folder import ComponentFolder
from components.messages import Arrays, DenoiseJob, FloatArray, Pixels, Snapshot
from diffusion.errors import DiffusionError
from diffusion.guidance import Guidance
from diffusion.inpainting import inpaint
from diffusion.noise import NoiseSource, slerp
from diffusion.preview import project
from diffusion.samplers import Sampler, SamplerRow, find_sampler
from diffusion.trajectory import Trajectory
from pipeline.controlnet import ControlNet
from pipeline.errors import RequestError, refuse
from pipeline.held import added_within, held
from pipeline.joining import joined
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
        self._optional = {spec.name for spec in self.contract.inputs if spec.optional}
        self.provider = self._session.provider

    def warm_up(self) -> None:
        """Run the U-Net on zeros, as opening it did; what a sound session can always do.

        Raises:
            RuntimeFault: the session could not run.
        """
        self._session.warm_up()

    def begin(self, job: DenoiseJob, snapshot: Snapshot | None = None, controlnets: Sequence[ControlNet] = ()) -> Track:
        """Start a track, or go on from a snapshot of one; nothing runs yet.

        There is one of `controlnets` for each of the job's control pictures, in their order.

        Raises:
            RequestError: the sampler, its eta or the number of steps is none of this checkpoint's, the height or width
                is none of this network's, the noise, image latents, mask, a row or the snapshot has another shape
                than the job and the contract say, a row is missing or none that guidance weighs, there is a mask, a
                strength under 1 or a start over 0 without image latents, a start over 0 with one of the others,
                guidance, strength, start, end, noise or seed are outside their limits, or what is to hold the walk is
                not for this denoiser or this size.
        """
        self._check_size(job)
        size = (job.height, job.width)
        trajectory = self._trajectories.lay_out(
            job.sampler, job.steps, job.schedule, size, strength=job.strength, between=(job.start, job.end)
        )
        shape = (1, self.space.channels, *size)
        _check_image(job, shape)
        try:
            guidance = guidance_of(job, self.contract)
            self._check_rows(job, guidance)
            holding = held(job, controlnets, self.contract)
            row = find_sampler(job.sampler)
            sampler = _start(job, row, trajectory, shape)
        except DiffusionError as error:
            raise RequestError(error.field, str(error)) from None
        prediction = self._trajectories.prediction
        track = Track(
            sampler,
            trajectory.steps,
            prediction,
            job.rows,
            guidance,
            row.wide_answers,
            self._optional,
            holding,
            job.boxes_end,
        )
        if snapshot is not None:
            if any(estimate.shape != shape for estimate in snapshot.estimates):
                raise refuse("snapshot", "estimates of another shape", f"of estimates {list(shape)}")
            if len(snapshot.estimates) > track.evaluations:
                raise refuse("snapshot", len(snapshot.estimates), f"of at most {track.evaluations} estimates")
            track.resume(snapshot)
        return track

    def advance(self, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        """Run the U-Net once for all rows of `tracks`, and send each sampler its answer.

        Before it, each ControlNet runs once for the rows that it holds.

        Every track is moved by one evaluation. They must be of one signature, not done, and each there once.

        Raises:
            RuntimeFault: the session could not run, or `interrupt` broke it off; no track has moved. A ControlNetFault
                where that was a ControlNet's.
        """
        assert len({track.signature for track in tracks}) == 1, "tracks of several signatures, or none, in one run"
        assert len(set(map(id, tracks))) == len(tracks), "a track twice in one run"
        rows = [track.rows for track in tracks]
        asked = [self._asked(track) for track in tracks]
        added = added_within(tracks, asked, interrupt)
        feeds = joined([{**arrays, **more} for arrays, more in zip(asked, added, strict=True)], rows)
        prediction = self._session.run(feeds, interrupt)["prediction"]
        start = 0
        for track, count_of_rows in zip(tracks, rows, strict=True):
            track.answer(prediction[start : start + count_of_rows])
            start += count_of_rows

    def denoise(self, job: DenoiseJob, controlnets: Sequence[ControlNet] = ()) -> FloatArray:
        """Walk one job to its end and return its latents [1, channels, height, width], in the denoiser's scale.

        Raises:
            RequestError: as `begin`.
            RuntimeFault: as `advance`.
        """
        track = self.begin(job, controlnets=controlnets)
        while not track.done:
            self.advance([track])
        return track.latents

    def preview(self, estimate: FloatArray) -> Pixels | None:
        """A small picture [height, width, 3], 0..255, of an estimate [1, channels, height, width] of the latents.

        One pixel for each latent pixel; None where the contract holds no projection.
        """
        projection = self.contract.preview
        return None if projection is None else project(estimate, projection.factors, projection.bias)[0]

    def _asked(self, track: Track) -> Arrays:
        """What the network is asked for a track's rows."""
        timestep = np.full(track.rows, self._trajectories.told(track.query), np.float32)
        return {**track.conditioning, "latents": track.network_input(), "timestep": timestep}

    def _check_size(self, job: DenoiseJob) -> None:
        multiple = self.contract.latent_multiple
        for field, side in (("height", job.height), ("width", job.width)):
            if side % multiple:
                raise refuse(field, side, f"a multiple of {multiple}")
            if self.contract.latent_limit is not None and side > self.contract.latent_limit:
                raise refuse(field, side, f"at most {self.contract.latent_limit}")

    def _check_rows(self, job: DenoiseJob, guidance: Guidance) -> None:
        if set(job.rows) != set(guidance.weighed):
            rows = ", ".join(guidance.weighed)
            raise refuse("rows", ", ".join(sorted(job.rows)), f"{rows} at guidance {guidance.scale:g}")
        for name, arrays in job.rows.items():
            self._check_row(name, arrays)
        first, *others = job.rows.values()
        for other in others:
            if any(other[n].shape != array.shape for n, array in first.items() if n not in self._optional):
                raise refuse("rows", "rows of several shapes", "of one")

    def _check_row(self, row: str, arrays: Arrays) -> None:
        added = tuple(CONTROL_PREFIXES.values())
        wanted = {
            spec.name: spec
            for spec in self.contract.inputs
            if spec.name not in _INTERFACE.inputs and not spec.name.startswith(added)
        }
        found = {name: array for name, array in arrays.items() if name in wanted}
        if len(found) != len(arrays) or not self.contract.required_inputs <= {*found, *_INTERFACE.inputs}:
            raise refuse(row, ", ".join(sorted(arrays)), ", ".join(sorted(wanted)))
        for name, array in found.items():
            # of one row, whatever the contract calls that dimension
            shape = (1, *wanted[name].shape[1:])
            fits = array.ndim == len(shape) and all(
                isinstance(dim, str) or dim == size for dim, size in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype != wanted[name].dtype:
                raise refuse(
                    row,
                    f"{name} {array.dtype} {list(array.shape)}",
                    f"{wanted[name].dtype} {shape_text(shape)}",
                )


def _check_image(job: DenoiseJob, shape: tuple[int, ...]) -> None:
    latents = job.image_latents
    if latents is None:
        if job.mask is not None:
            raise refuse("mask", list(job.mask.shape), "left out without image latents")
        for field, value, usual in (("strength", job.strength, 1), ("start", job.start, 0)):
            if value != usual:
                raise refuse(field, value, f"{usual} without image latents")
    elif job.start > 0 and (job.mask is not None or job.strength != 1):
        raise refuse("start", job.start, "0 with a mask, or a strength under 1")
    elif latents.shape != shape or latents.dtype != np.float32:
        raise refuse("image_latents", f"{latents.dtype} {list(latents.shape)}", f"float32 {list(shape)} for this size")


def _start(job: DenoiseJob, row: SamplerRow, trajectory: Trajectory, shape: tuple[int, ...]) -> Sampler:
    source = NoiseSource(job.seed, shape, job.rng, job.after)
    if job.start > 0 and job.image_latents is not None:
        left = job.image_latents
        if not trajectory.flow and row.conventions.starts == "unit":
            # left with unit variance, and taken as x0 + sigma * noise
            left = left * np.float32(math.hypot(1.0, trajectory.steps[0].sigma))
        return row.start(left, trajectory, job.eta, partial(next, map(source.draw, count())))
    # the draws are those of diffusers: the sample of the picture's latents, the noise, with a mask the sample of the
    # latents of the picture without what is drawn anew, which its pipeline draws for every network, then the sampler's
    first = 0 if job.image_latents is None or not job.sampled else 1
    later_draws = map(source.draw, count(first + 1 + (job.drawn if job.mask is None else 1)))
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
    if job.subseed is None:
        return own
    return slerp(own, NoiseSource(job.subseed, shape, job.rng, job.after).draw(draw), job.subseed_strength)

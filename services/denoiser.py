"""The denoiser's deployment: noise to latents, all walks of a replica in shared runs."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from functools import partial

from ray.serve.handle import DeploymentHandle

from components.contract import Contract, Kind, LatentSpace
from components.folder import ComponentFolder
from components.messages import EncodedImage, EncodedText, LatentDistribution
from components.reference import ComponentRef
from diffusion.batcher import Limits
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestRules
from runtime.settings import SessionSettings
from services.errors import StartError
from services.messages import LiveRecord, ReplicaReport, WalkOrder, WalkReport, Worked
from services.metrics.denoiser import DenoiserMetrics
from services.scaling import SPEED, WORK
from services.stage_args import DenoiserArgs
from services.stage_host import StageHost, StageSettings
from services.step_loop import StepLoop
from services.timelines.tracing import export

# The noise of a larger picture takes milliseconds, in which others must not wait; that of a smaller one less than the
# way to a thread and back, in which a run would begin without it.
_INLINE_PIXELS = 64 * 64

# the unconditional and the conditional row of one picture stay together
GUIDED_ROWS = 2


class DenoiserSettings(StageSettings):
    """What a denoiser's replicas need to know: how much shares a run, how much may wait, how large pictures are."""

    args: DenoiserArgs = DenoiserArgs()
    rules: RequestRules

    def limits(self, contract: Contract) -> Limits:
        """The bounds in terms of one bundle's latents; `contract` is its denoiser's.

        Raises:
            StartError: the largest picture that may be asked for would not fit into a run.
        """
        space, size = contract.latent_space, contract.latent_size
        if space is None or size is None:
            raise StartError(f"{contract.kind}: its contract does not say how large latents are")
        own = size[0] * size[1]
        largest = self._largest_rows(contract, space)
        pixels = max(self.args.run_rows * own, largest) if self.args.run_pixels is None else self.args.run_pixels
        self.require_room(pixels, contract)
        picture = GUIDED_ROWS * own * self.rules.default_steps
        return Limits(self.args.run_rows, pixels, max(pixels, self.args.queued_pictures * picture))

    def require_room(self, run_pixels: int, contract: Contract) -> None:
        """Refuse a run too small for the largest picture, or the most rows, that may be asked for of a contract.

        Raises:
            StartError: it is.
        """
        assert contract.latent_space is not None, "a denoiser's contract has a latent space"
        largest = self._largest_rows(contract, contract.latent_space)
        if run_pixels < largest:
            raise StartError(
                f"denoiser.run_pixels={run_pixels}: must be at least {largest}, the rows of a picture of "
                "rules.max_pixels"
            )
        if self.args.run_rows < contract.most_rows:
            raise StartError(
                f"denoiser.run_rows={self.args.run_rows}: must be at least {contract.most_rows}, the rows of a picture "
                "of this bundle"
            )

    def _largest_rows(self, contract: Contract, space: LatentSpace) -> int:
        return contract.most_rows * (self.rules.most_pixels(contract) // space.downscale**2)


def _open(settings: DenoiserSettings, limits: Limits, folder: ComponentFolder, session: SessionSettings) -> Denoiser:
    """Open a version, whose latents may be larger for their pictures than those of the one that the limits are for."""
    stage = Denoiser(folder, session)
    settings.require_room(limits.pixels, stage.contract)
    return stage


class DenoiserDeployment:
    """Walks pictures of any requests side by side, one evaluation of each in a run that they share."""

    async def __init__(self, rollout: DeploymentHandle, settings: DenoiserSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        record: LiveRecord = await rollout.record.remote()
        settings = settings.own(Kind.DENOISER)
        limits = settings.limits(record.live.contracts[Kind.DENOISER])
        self._host = StageHost(Kind.DENOISER, partial(_open, settings, limits), Denoiser.warm_up, settings)
        self._loop = StepLoop(limits, DenoiserMetrics(), self._host.ran, replica=self._host.replica)
        await self._host.start(record)

    async def walk(
        self,
        order: WalkOrder,
        encoded: Worked[EncodedText],
        source: Worked[LatentDistribution] | None = None,
        *,
        third: Worked[EncodedText] | None = None,
    ) -> AsyncIterator[WalkReport]:
        """Draw the first picture of a request, from `source` if there is one; the last report holds its latents.

        `third` is what a third text encoder made of the texts.

        A caller that goes away ends the walk, in the middle of a run if nobody else shares it.
        """
        arrival = self._loop.arrive()
        async with self._host.using(order.pin) as stage:
            with self._host.working(order.pin):
                image = None
                if source is not None or order.low_resolution is not None or order.latents is not None:
                    distribution = None if source is None else source.made
                    image = EncodedImage(distribution, order.mask, order.low_resolution, order.depth, order.latents)
                texts = encoded.made if third is None else encoded.made.beside(third.made)
                [job] = denoise_jobs(order.request, texts, stage.contract, image=image)
                if order.alone_until:
                    # it is here, and whatever stops the replica before its own run was not it
                    yield WalkReport(0, order.request.steps)
                if job.height * job.width <= _INLINE_PIXELS and not order.snapshot.estimates:
                    track = stage.begin(job)
                else:
                    track = await asyncio.to_thread(stage.begin, job, order.snapshot)
                async with aclosing(self._loop.walk(arrival, order, stage, track)) as reports:
                    async for report in reports:
                        if report.span is not None:
                            export(report.span)
                        yield report

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep versions open, the most important first, and say how far that is."""
        return self._host.hold(wanted, replaced)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve's controller scales this deployment by."""
        return {WORK: self._loop.work, SPEED: self._loop.speed}

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        self._loop.check_health()
        await self._host.check_health()

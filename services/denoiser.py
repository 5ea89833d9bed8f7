"""The denoiser's deployment: noise to latents, all walks of a replica in shared runs."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from weakref import WeakKeyDictionary

from ray.serve.handle import DeploymentHandle

from components.contract import Contract, Kind, LatentSpace
from components.folder import ComponentFolder
from components.messages import Arrays, ControlFeatures, EncodedImage, EncodedText, ImageRequest, LatentDistribution
from components.reference import ComponentRef
from diffusion.batcher import Limits
from pipeline.controlnet import ControlNet
from pipeline.denoiser import Denoiser
from pipeline.held import ControlNetFault
from pipeline.image_encoder import image_prompt_rows
from pipeline.jobs import denoise_jobs
from pipeline.loras import Lora, lora_arrays
from pipeline.request import RequestRules
from pipeline.rows import adapted_rows
from runtime.errors import RuntimeFault
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

    @property
    def controlnets(self) -> StageSettings:
        """Those of the ControlNets beside it."""
        return StageSettings(registry=self.registry, args=self.args.controlnets, compiler=self.compiler)

    @property
    def loras(self) -> StageSettings:
        """Those of the LoRAs that its rows take."""
        return StageSettings(registry=self.registry, args=self.args.loras, compiler=self.compiler)

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


def _adapted(
    request: ImageRequest, loras: Sequence[Lora], image_prompts: Worked[Arrays] | None
) -> Mapping[str, Arrays]:
    """What comes of a request beside its texts, by row."""
    scales = [choice.scale for choice in request.loras]
    alike = None
    if image_prompts is not None and request.image_prompt_scale is not None:
        alike = image_prompt_rows(image_prompts.made, request.image_prompt_scale)
    return adapted_rows(lora_arrays(list(zip(loras, scales, strict=True))), alike)


class DenoiserDeployment:
    """Walks pictures of any requests side by side, one evaluation of each in a run that they share.

    ControlNets are held here too, and run in the same thread before the U-Net: what one adds is another in each step
    and has megabytes, so that its way between two processes would take longer than its run. They are opened when the
    first request names them, and closed for others like versions of the U-Net. So are LoRAs, of which the rows take the
    arrays: they are small, and would come with every walk otherwise.
    """

    async def __init__(self, rollout: DeploymentHandle, settings: DenoiserSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        record: LiveRecord = await rollout.record.remote()
        settings = settings.own(Kind.DENOISER)
        limits = settings.limits(record.live.contracts[Kind.DENOISER])
        self._host = StageHost(Kind.DENOISER, partial(_open, settings, limits), Denoiser.warm_up, settings)
        self._controlnets = StageHost(Kind.CONTROLNET, ControlNet, ControlNet.warm_up, settings.controlnets)
        self._loras = StageHost(Kind.LORA, Lora, lambda _: None, settings.loras)
        self._pins: WeakKeyDictionary[ControlNet, ComponentRef] = WeakKeyDictionary()
        self._loop = StepLoop(limits, DenoiserMetrics(), self._ran, replica=self._host.replica)
        await self._host.start(record)

    async def walk(
        self,
        order: WalkOrder,
        encoded: Worked[EncodedText],
        source: Worked[LatentDistribution] | None = None,
        image_prompts: Worked[Arrays] | None = None,
        *features: Worked[Arrays],
        third: Worked[EncodedText] | None = None,
    ) -> AsyncIterator[WalkReport]:
        """Draw the first picture of a request, from `source` if there is one; the last report holds its latents.

        `image_prompts` are the tokens of the pictures that it is to be like, `features` are those of adapters, of which
        the order says how they hold it. `third` is what a third text encoder made of the texts.

        A caller that goes away ends the walk, in the middle of a run if nobody else shares it.
        """
        arrival = self._loop.arrive()
        async with AsyncExitStack() as held:
            stage = await held.enter_async_context(self._host.using(order.pin))
            nets = [await self._controlnet(control.pin, held) for control in order.controls]
            loras = [await held.enter_async_context(self._loras.using(pin)) for pin in order.loras]
            with self._host.working(order.pin):
                image = None
                if source is not None or order.low_resolution is not None or order.latents is not None:
                    distribution = None if source is None else source.made
                    image = EncodedImage(distribution, order.mask, order.low_resolution, order.depth, order.latents)
                [job] = denoise_jobs(
                    order.request,
                    encoded.made if third is None else encoded.made.beside(third.made),
                    stage.contract,
                    image=image,
                    controls=[control.picture for control in order.controls],
                    features=[
                        ControlFeatures(scale=how.scale, start=how.start, end=how.end, arrays=made.made)
                        for how, made in zip(order.features, features, strict=True)
                    ],
                    adapted=_adapted(order.request, loras, image_prompts),
                )
                if order.alone_until:
                    # it is here, and whatever stops the replica before its own run was not it
                    yield WalkReport(0, order.request.steps)
                if job.height * job.width <= _INLINE_PIXELS and not order.snapshot.estimates:
                    track = stage.begin(job, controlnets=nets)
                else:
                    track = await asyncio.to_thread(stage.begin, job, order.snapshot, nets)
                async with aclosing(self._loop.walk(arrival, order, stage, track)) as reports:
                    async for report in reports:
                        if report.span is not None:
                            export(report.span)
                        yield report
                for net in nets:
                    self._controlnets.ran(self._pins[net], net)

    async def _controlnet(self, pin: ComponentRef, held: AsyncExitStack) -> ControlNet:
        net = await held.enter_async_context(self._controlnets.using(pin))
        self._pins[net] = pin
        return net

    def _ran(self, pin: ComponentRef, stage: Denoiser, fault: RuntimeFault | None = None) -> None:
        """Take note of a run by the version that it was done by, or that could not."""
        if isinstance(fault, ControlNetFault):
            at_fault = self._pins[fault.net]
            self._controlnets.metrics.failed(str(at_fault))
            self._controlnets.ran(at_fault, fault.net, fault)
        else:
            self._host.ran(pin, stage, fault)

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
        await self._controlnets.check_health()

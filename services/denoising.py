"""Denoising that goes on where a replica stops: each walk from what the last one told of it."""

from dataclasses import replace

from ray.exceptions import ObjectLostError
from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import FloatArray
from services.calls import taken, transfer
from services.drawing import Drawing
from services.encoders import Encoders
from services.messages import WalkOrder, WalkReport
from services.metrics.graph import GraphMetrics
from services.retries import LOST, Losses
from services.timelines.spans import Span, Stopwatch

# short runs follow each other faster than their reports come
_LEAST_APART = 4


class Denoisers:
    """Asks the denoiser's deployment for the latents of one picture, and another replica where one stops."""

    def __init__(
        self, denoiser: DeploymentHandle, encoders: Encoders, metrics: GraphMetrics, snapshot_every: int
    ) -> None:
        """Have a walk that nobody watches told of every `snapshot_every` evaluations, to go on from there."""
        self._denoiser = denoiser.options(stream=True)
        self._encoders = encoders
        self._metrics = metrics
        self._snapshot_every = snapshot_every

    async def walk(self, drawing: Drawing, image: int) -> tuple[FloatArray, Span]:
        """Latents of one picture, from as many replicas as it takes; each goes on where the last report left off.

        Beside them comes the span of all of it, made of what each of these replicas had of it.

        Raises:
            DeadlineExceededError: no replica could take it in time, or none could end it.
            GivenUpError: replicas stopped one after the other.
        """
        watch, parts = Stopwatch(), list[Span]()
        losses = Losses(Kind.DENOISER, self._metrics)
        order = self._order(drawing, image)
        while True:
            attempt, encoded_lost = Stopwatch(), False
            encoded = drawing.encoded
            beside = (encoded.source, encoded.image_prompts, *encoded.features)
            reports = self._denoiser.walk.remote(order, encoded.texts, *beside, third=encoded.third)
            try:
                queue = await taken(reports, drawing.deadline)
                since_taken = Stopwatch()
                async for report in reports:
                    losses.told(report.at_risk)
                    order = replace(order, snapshot=order.snapshot.after(report.progress))
                    if len(order.snapshot.estimates) >= order.alone_until:
                        losses.cleared()
                    drawing.tell(image, report)
                    if report.latents is not None:
                        parts += (queue, *self._answered(order, report.latents, _span_of(report), since_taken))
                        return report.latents, watch.span(Kind.DENOISER, *parts, stage=Kind.DENOISER)
                losses.count()
            except LOST as error:
                # a replica that only seemed to be gone must not go on with it too
                reports.cancel()
                encoded_lost = isinstance(error, ObjectLostError)
                if encoded_lost:
                    losses.told(at_risk=False)
                losses.count()
            except BaseException:
                # whoever leaves before the end wants no more of it
                reports.cancel()
                raise
            parts.append(attempt.span("lost", stage=Kind.DENOISER, component=order.pin))
            if encoded_lost:
                # it went with the machine that kept it, and every other denoiser would miss it too
                drawing.encoded = await self._encoders.encode(drawing.order, drawing.deadline)
                parts += drawing.encoded.spans
            # where it stopped the next report may just have been on its way
            past = len(order.snapshot.estimates) + max(order.report_every, _LEAST_APART) + 2
            order = replace(order, waited_s=drawing.deadline.waited_s(), admitted=True, alone_until=past)

    def _answered(self, order: WalkOrder, latents: FloatArray, walk: Span, since_taken: Stopwatch) -> tuple[Span, Span]:
        # it is in the replica from its arrival until its last report
        way = transfer(since_taken, walk.seconds)
        self._metrics.answered(Kind.DENOISER, order.pin, latents.nbytes, None, way.seconds)
        return walk, way

    def _order(self, drawing: Drawing, image: int) -> WalkOrder:
        order, watch, source = drawing.order, drawing.watch, drawing.order.source
        return WalkOrder(
            order=drawing.id,
            pin=order.pins[Kind.DENOISER],
            request=order.request.picture(image),
            terms=order.terms,
            waited_s=drawing.deadline.waited_s(),
            # a picture whose first pass is done is not refused for what came since
            admitted=drawing.before > 0,
            report_every=self._snapshot_every if watch is None else 1,
            preview_every=0 if watch is None else watch.preview_every,
            tell_position=watch is not None,
            mask=None if source is None else source.mask,
            low_resolution=source.pixels if source is not None and order.sees_pixels else None,
            depth=None if source is None else source.depth,
            latents=drawing.start,
            controls=order.controls_of(Kind.CONTROLNET),
            features=tuple(one.how for one in order.controls_of(Kind.ADAPTER)),
            loras=order.loras,
        )


def _span_of(report: WalkReport) -> Span:
    assert report.span is not None, "the last report has it"
    return report.span

"""What an order's pictures are made from: its texts, its source and its control pictures, encoded side by side."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic

from ray.serve.handle import DeploymentHandle, DeploymentResponse

from components.contract import Kind
from components.messages import Arrays, EncodedText, FloatArray, LatentDistribution
from components.reference import ComponentRef
from services.calls import Answered, answered
from services.deadlines import Deadline
from services.messages import ControlOrder, Made, Order
from services.metrics.graph import GraphMetrics
from services.retries import again_where_lost
from services.timelines.spans import Span, Stopwatch


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What denoisers are given by reference: the conditioning of the texts, and the latents of the source if any.

    `third` is the conditioning by a third text encoder, where the order is pinned to one. `features` are those of
    adapters, in the order of the request's controls for them, `image_prompts` the tokens of the pictures to be like.
    `told` is what the text encoders told; the spans are those of the calls, the texts' first.
    """

    texts: DeploymentResponse
    third: DeploymentResponse | None
    source: DeploymentResponse | None
    told: EncodedText
    spans: tuple[Span, ...]
    features: tuple[DeploymentResponse, ...] = ()
    image_prompts: DeploymentResponse | None = None


class Encoders:
    """Asks the encoders' deployments, and each again where its replica stops."""

    def __init__(
        self,
        text_encoder: DeploymentHandle,
        third_text_encoder: DeploymentHandle,
        vae_encoder: DeploymentHandle,
        adapter: DeploymentHandle,
        image_encoder: DeploymentHandle,
        metrics: GraphMetrics,
    ) -> None:
        self._text_encoder = text_encoder
        self._third_text_encoder = third_text_encoder
        self._vae_encoder = vae_encoder
        self._adapter = adapter
        self._image_encoder = image_encoder
        self._metrics = metrics

    async def encode(self, order: Order, deadline: Deadline) -> Encoded:
        """Encode the texts of an order, its source, its control pictures for adapters and the pictures to be like.

        Raises:
            DeadlineExceededError: no replica could take one of them in time.
            GivenUpError: two replicas of one of them stopped while they worked on it.
            StartError: a pinned version cannot be had or opened.
        """
        # waited for here, so that a replica that stops is that stage's and not one of those that this goes to
        ours, third_ones, theirs, alike = (
            asyncio.create_task(self._texts(order, deadline)),
            asyncio.create_task(self._third_texts(order, deadline)),
            asyncio.create_task(self._source(order, deadline)),
            asyncio.create_task(self._image_prompts(order, deadline)),
        )
        held_by = [
            asyncio.create_task(self._features(control, deadline)) for control in order.controls_of(Kind.ADAPTER)
        ]
        try:
            texts, third, source, prompts, features = await asyncio.gather(
                ours, third_ones, theirs, alike, asyncio.gather(*held_by)
            )
        finally:
            # where one fails nobody wants the others
            for call in (ours, third_ones, theirs, alike, *held_by):
                call.cancel()
        others = (one.span for one in (third, source, prompts, *features) if one is not None)
        return Encoded(
            texts.response,
            None if third is None else third.response,
            None if source is None else source.response,
            texts.made if third is None else texts.made.beside(third.made),
            (texts.span, *others),
            tuple(one.response for one in features),
            None if prompts is None else prompts.response,
        )

    async def with_source(self, encoded: Encoded, order: Order, deadline: Deadline) -> Encoded:
        """The same texts beside the source of another order; raises as `encode`."""
        source = await self._source(order, deadline)
        assert source is not None, "the order has one that is encoded"
        return replace(encoded, source=source.response, spans=(source.span,))

    async def _texts(self, order: Order, deadline: Deadline) -> "_Call[EncodedText]":
        request, pin = order.request, order.pins[Kind.TEXT_ENCODER]
        arguments = (request.texts, request.prompt_chunks, request.weighting, request.clip_skip, request.phrases)
        return await self._asked(
            Kind.TEXT_ENCODER,
            pin,
            deadline,
            lambda: self._text_encoder.encode.remote(pin, *arguments),
            lambda encoded: (*encoded.arrays.values(), *(() if encoded.phrases is None else (encoded.phrases,))),
        )

    async def _third_texts(self, order: Order, deadline: Deadline) -> "_Call[EncodedText] | None":
        request, pin = order.request, order.pins.get(Kind.THIRD_TEXT_ENCODER)
        if pin is None:
            return None
        # it reads a text in one part, and has one layer
        return await self._asked(
            Kind.THIRD_TEXT_ENCODER,
            pin,
            deadline,
            lambda: self._third_text_encoder.encode.remote(pin, request.texts, 1, request.weighting, 1),
            lambda encoded: encoded.arrays.values(),
        )

    async def _source(self, order: Order, deadline: Deadline) -> "_Call[LatentDistribution] | None":
        if order.source is None or order.sees_pixels:
            return None
        pin, source, tiling = order.pins[Kind.VAE_ENCODER], order.source, order.request.tiling
        return await self._asked(
            Kind.VAE_ENCODER,
            pin,
            deadline,
            lambda: self._vae_encoder.encode.remote(pin, source.pixels, tiling, source.hidden),
            lambda encoded: encoded,
        )

    async def _image_prompts(self, order: Order, deadline: Deadline) -> "_Call[Arrays] | None":
        if not order.image_prompts:
            return None
        pin = order.pins[Kind.IMAGE_ENCODER]
        return await self._asked(
            Kind.IMAGE_ENCODER,
            pin,
            deadline,
            lambda: self._image_encoder.tokens.remote(pin, order.image_prompts),
            lambda made: made.values(),
        )

    async def _features(self, control: ControlOrder, deadline: Deadline) -> "_Call[Arrays]":
        return await self._asked(
            Kind.ADAPTER,
            control.pin,
            deadline,
            lambda: self._adapter.features.remote(control.pin, control.pixels),
            lambda made: made.values(),
        )

    async def _asked(
        self,
        stage: Kind,
        pin: ComponentRef,
        deadline: Deadline,
        call: Callable[[], DeploymentResponse],
        arrays_of: Callable[[Made], Iterable[FloatArray]],
    ) -> "_Call[Made]":
        async def once() -> tuple[DeploymentResponse, Answered[Made]]:
            response = call()
            answer: Answered[Made] = await answered(response, deadline)
            size = sum(array.nbytes for array in arrays_of(answer.made))
            self._metrics.answered(stage, pin, size, answer.queue.seconds, answer.transfer.seconds)
            return response, answer

        watch = Stopwatch()
        response, answer = await again_where_lost(stage, self._metrics, once)
        return _Call(response, answer.made, watch.span(stage, *answer.spans, stage=stage))


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[Made]):
    response: DeploymentResponse
    made: Made
    span: Span

"""Where the time of one picture went, by stage: what an answer tells of its spans."""

from collections.abc import Sequence

from components.contract import TEXT_KINDS, Kind
from services.messages import StageTimes
from services.timelines.spans import Span


def times_of(spans: Sequence[Span], total_s: float) -> StageTimes:
    """The times of the calls of one picture; `total_s` is from when its order came."""
    by_name = {span.name: span for span in spans}
    denoiser, source = by_name[Kind.DENOISER], by_name.get(Kind.VAE_ENCODER)
    # that of the replica that drew it to its end
    *_, walk = (part for part in denoiser.parts if part.name == "walk")
    queued_s = walk.seconds_of("queue")
    return StageTimes(
        text_encoder_s=max(by_name[kind].seconds for kind in TEXT_KINDS if kind in by_name),
        vae_encoder_s=None if source is None else source.seconds,
        queued_s=queued_s,
        denoiser_s=max(0.0, denoiser.seconds - queued_s),
        vae_decoder_s=by_name[Kind.VAE_DECODER].seconds,
        file_s=by_name["file"].seconds,
        total_s=total_s,
    )

"""Where the time of one picture went, by stage: what an answer tells of its spans."""

from collections.abc import Sequence

from components.contract import TEXT_KINDS, Kind
from services.messages import StageTimes
from services.timelines.spans import Span


def times_of(spans: Sequence[Span], total_s: float) -> StageTimes:
    """The times of the calls of one picture; `total_s` is from when its order came."""
    seconds: dict[str, float] = {}
    for span in spans:
        seconds[span.name] = seconds.get(span.name, 0.0) + span.seconds
    queued_s = sum(_queued_s(span) for span in spans if span.name == Kind.DENOISER)
    return StageTimes(
        text_encoder_s=max(seconds[kind] for kind in TEXT_KINDS if kind in seconds),
        vae_encoder_s=seconds.get(Kind.VAE_ENCODER),
        queued_s=queued_s,
        denoiser_s=max(0.0, seconds[Kind.DENOISER] - queued_s),
        vae_decoder_s=seconds[Kind.VAE_DECODER],
        file_s=seconds["file"],
        total_s=total_s,
    )


def _queued_s(denoiser: Span) -> float:
    # that of the replica that drew it to its end
    *_, walk = (part for part in denoiser.parts if part.name == "walk")
    return walk.seconds_of("queue")

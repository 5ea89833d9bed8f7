"""Times that are easy to reckon with."""

from collections.abc import Mapping

from benchmarks.plan.times import RunLimits, SizeTimes, StageTimes

_NOTHING = {2: 0.0}


def timed(rows: int = 2, run_s: Mapping[int, float] = _NOTHING, **seconds: float) -> StageTimes:
    """Times of pictures of 64x64 that take nothing anywhere but where the test says so."""
    stages = {"ingress_s": 0.0, "graph_s": 0.0, "text_encoder_s": 0.0, "vae_decoder_s": 0.0, **seconds}
    size = SizeTimes(latent_pixels=64, run_s=run_s, **stages)
    limits = RunLimits(rows=rows, pixels=64 * rows, queued=10**9)
    return StageTimes(made="", command="", cpu="", bundle="toy", limits=limits, sizes={"64x64": size})

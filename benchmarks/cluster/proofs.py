"""What a local cluster proves, one thing after the other, each under load."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import httpx

from benchmarks.cluster.autoscaling import autoscaling
from benchmarks.cluster.keeping import buckets, registry
from benchmarks.cluster.losing import lost_head, lost_worker
from benchmarks.cluster.rolling import decoder, option, pools
from benchmarks.cluster.stage import Outcome, Stage
from benchmarks.errors import BenchmarkError

PROOFS: Mapping[str, Callable[[Stage], Outcome]] = MappingProxyType(
    {
        "replicas run in their pools, proxies on every node": pools,
        "MLflow on PostgreSQL and a bucket is the registry": registry,
        "latents and links are in a bucket": buckets,
        "the decoder scaled 1, 3, 1 alone": decoder,
        "an option of the denoiser rolled it alone": option,
        "denoisers scaled by work, decoders by calls": autoscaling,
        "a worker node died, no request was lost": lost_worker,
        "the head died and started again": lost_head,
    }
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that was tried: whether it held, the figures, and how many seconds it took."""

    name: str
    held: bool
    said: str
    seconds: float


def proved(stage: Stage, say: Callable[[str], None]) -> tuple[Proof, ...]:
    """Start everything, and try one thing after the other."""
    say("publishing the model")
    stage.stores.publish()
    say("starting Ray's nodes, and deploying")
    stage.start()
    return tuple(_proof(stage, name, say) for name in PROOFS)


def _proof(stage: Stage, name: str, say: Callable[[str], None]) -> Proof:
    say(name)
    began = time.monotonic()
    try:
        outcome = PROOFS[name](stage)
    except (BenchmarkError, httpx.HTTPError) as error:
        outcome = Outcome(held=False, said=str(error))
    return Proof(name, outcome.held, outcome.said, time.monotonic() - began)

"""What the ingress asks of Ray: which replicas run, and this node's figures."""

import asyncio
import time
import urllib.error
import urllib.request

import ray
from ray import serve
from ray.serve.schema import ReplicaState

from services.errors import UnavailableError

_FRESH_S = 1.0
_TIMEOUT_S = 5.0


class RunningReplicas:
    """Counts the running replicas of every deployment; asks the controller once a second at most."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._counts: dict[str, int] = {}
        self._asked = -_FRESH_S
        self._lock = asyncio.Lock()

    async def __call__(self) -> dict[str, int]:
        """The replicas that take requests, by deployment."""
        async with self._lock:
            if time.monotonic() - self._asked >= _FRESH_S:
                self._counts = await asyncio.to_thread(self._ask)
                self._asked = time.monotonic()
        return self._counts

    def _ask(self) -> dict[str, int]:
        deployments = serve.status().applications[self._application].deployments
        return {name: one.replica_states.get(ReplicaState.RUNNING, 0) for name, one in deployments.items()}


async def node_metrics() -> bytes:
    """The Prometheus page of this node's Ray agent, which gathers the figures of every process on the node.

    Raises:
        UnavailableError: the agent does not answer.
    """
    return await asyncio.to_thread(_read_agent)


def _read_agent() -> bytes:
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    try:
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as page:
            content: bytes = page.read()
            return content
    except (urllib.error.URLError, TimeoutError):
        raise UnavailableError("the node's metrics agent does not answer") from None

"""What the ingress asks of Ray: its other replicas, and this node's figures."""

import asyncio
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client, _get_serve_request_context
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from services.errors import UnavailableError
from services.timelines.memory import Timeline, Timelines

_TIMEOUT_S = 5.0


class Siblings:
    """Every replica of the ingress; `own` are the timelines of this one."""

    def __init__(self, deployment: str, application: str, own: Timelines) -> None:
        self._deployment = deployment
        self._application = application
        self._own = own
        self._ingress: DeploymentHandle | None = None

    async def timeline(self, request_id: str, owner: str) -> Timeline | None:
        """A request's timeline from whichever replica answered it, this one before others; None where there is none.

        Raises:
            UnavailableError: it is not here, and one of the others does not answer.
        """
        here = self._own.find(request_id, owner)
        if here is not None:
            return here
        if self._ingress is None:
            # it asks the controller, for as long as that takes
            self._ingress = await asyncio.to_thread(serve.get_deployment_handle, self._deployment, self._application)
        ingress: DeploymentHandle = self._ingress
        asked = ingress.broadcast("timeline", request_id, owner)
        # one that stops has nothing to tell any more
        try:
            answers = await asked.results_async(timeout_s=_TIMEOUT_S, return_exceptions=True)
        except TimeoutError:
            raise UnavailableError("an ingress replica does not answer") from None
        found = [one for one in answers if isinstance(one, Timeline)]
        return max(found, key=lambda one: one.span.start, default=None)


def listening_host() -> str | None:
    """Where Serve's proxies listen for HTTP, None where that is not to be learned."""
    try:
        # Serve has no public way to it
        client = _get_global_client()
    except (RayError, RayServeException, OSError):
        return None
    host: str | None = client.http_config.host
    return host


def request_id() -> str:
    """The id of the request that is being answered: the caller's `x-request-id`, or the one that the proxy made."""
    # Serve has no public way to it
    return _get_serve_request_context().request_id


async def node_metrics() -> bytes:
    """The Prometheus page of this node's Ray agent, which gathers the figures of every process on the node.

    Raises:
        UnavailableError: the agent does not answer.
    """
    return await asyncio.to_thread(_read_agent)


def _read_agent() -> bytes:
    try:
        here = ray.get_runtime_context().get_node_id()
        # without a default the StopIteration would never leave the thread, and the request would hang
        node = next((node for node in ray.nodes() if node["NodeID"] == here), None)
        if node is None:
            raise UnavailableError("Ray does not know this node")
        connection = HTTPConnection(node["NodeManagerAddress"], node["MetricsExportPort"], timeout=_TIMEOUT_S)
        with closing(connection):
            connection.request("GET", "/metrics")
            page = connection.getresponse()
            content = page.read()
    except (RayError, OSError, HTTPException):
        raise UnavailableError("the node's metrics agent does not answer") from None
    if page.status != HTTPStatus.OK:
        raise UnavailableError(f"the node's metrics agent answers with status {page.status}")
    return content

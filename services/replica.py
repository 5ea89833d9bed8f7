"""Where in the cluster this process is."""

import ray
from ray import serve
from ray.serve.exceptions import RayServeException


def whereabouts() -> tuple[str, str]:
    """This replica's name and its node's id; both empty outside of Serve."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return "", ""
    return context.replica_id.unique_id, ray.get_runtime_context().get_node_id()


def application() -> str:
    """The name of the application that this replica is of; empty outside of Serve."""
    try:
        return serve.get_replica_context().app_name
    except RayServeException:
        return ""

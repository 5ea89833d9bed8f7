"""Where replicas run, and what a change of the config touches."""

import httpx

from benchmarks.cluster.load import load_on
from benchmarks.cluster.nodes import node_labels
from benchmarks.cluster.stage import Outcome, Stage
from benchmarks.cluster.variables import HEAD
from benchmarks.errors import BenchmarkError


def pools(stage: Stage) -> Outcome:
    """Each component's replicas are in their pool, and each node with a replica has a proxy that lets requests in."""
    labels = node_labels(stage.cluster)
    replicas = stage.application.replicas()
    there = {(replica.deployment, labels.get(replica.node, {}).get("pool", "")) for replica in replicas}
    wanted = {
        (entry["name"], entry["ray_actor_options"]["label_selector"]["pool"])
        for entry in stage.application.config["applications"][0]["deployments"]
    }
    nodes = sorted({HEAD, *(labels[replica.node]["node"] for replica in replicas)})
    stage.application.wait(lambda: all(_opens(stage, node) for node in nodes))
    said = ", ".join(f"{name}: {pool}" for name, pool in sorted(there))
    return Outcome(there == wanted, f"{said}; proxies that answer: {', '.join(nodes)}")


def decoder(stage: Stage) -> Outcome:
    """The decoder goes from one replica to three and back, and no other replica is touched."""
    before = stage.others("vae_decoder")
    with load_on(stage.door()) as load:
        for count in (3, 1):
            stage.application.bound("vae_decoder", count, count)
            stage.application.deploy()
            if len(stage.application.pids("vae_decoder")) != count:
                raise BenchmarkError(f"there are not {count} decoders")
    same = before == stage.others("vae_decoder")
    return Outcome(same and not load.failed, str(load))


def option(stage: Stage) -> Outcome:
    """A changed option of the denoiser exchanges its replicas, and those alone."""
    before, denoisers = stage.others("denoiser"), stage.application.pids("denoiser")
    variables = stage.application.deployment("denoiser")["ray_actor_options"]["runtime_env"]["env_vars"]
    with load_on(stage.door()) as load:
        variables["LATENTWORKS_DENOISER__RUN_ROWS"] = "4"
        stage.application.deploy()
    now = stage.application.pids("denoiser")
    alone = before == stage.others("denoiser") and not denoisers & now and len(now) == len(denoisers)
    return Outcome(alone and not load.failed, str(load))


def _opens(stage: Stage, node: str) -> bool:
    try:
        answer = httpx.get(f"{stage.door(node).url}/readyz", timeout=5, trust_env=False)
    except httpx.TransportError:
        return False  # it may only be starting
    return answer.status_code == httpx.codes.OK

import subprocess
import sys

import pytest

from benchmarks.memory import MemorySampler, Role, classify, summarise
from tests.benchmarks.conftest import MB, process

RAY = "/x/.venv/lib/python3.11/site-packages/ray"
COMMANDS = {
    "ray::ServeReplica:default:denoiser": (Role.REPLICA, "denoiser"),
    "ray::ServeReplica:default:ingress.handle_request_with_rejection": (Role.REPLICA, "ingress"),
    "ray::ServeReplica:other:vae_decoder": (Role.REPLICA, "vae_decoder"),
    "ray::ProxyActor": (Role.PROXY, "ProxyActor"),
    "ray::ProxyActor.ready": (Role.PROXY, "ProxyActor"),
    "/usr/sbin/haproxy -f /tmp/haproxy.cfg": (Role.PROXY, "haproxy"),
    "ray::ServeController.listen_for_change": (Role.CONTROLLER, "ServeController"),
    "ray::DashboardAgent": (Role.DAEMON, "DashboardAgent"),
    "ray::IDLE": (Role.DAEMON, "IDLE"),
    "ray-dashboard-NodeHead-0 (/x/.venv/bin/python -c x)": (Role.DAEMON, "dashboard-NodeHead"),
    f"{RAY}/core/src/ray/gcs/gcs_server --log_dir=/tmp/ray": (Role.DAEMON, "gcs_server"),
    f"{RAY}/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/s": (Role.DAEMON, "raylet"),
    f"/x/.venv/bin/python -u {RAY}/_private/log_monitor.py --session-dir=/tmp": (Role.DAEMON, "log_monitor"),
    f"/x/.venv/bin/python {RAY}/dashboard/dashboard.py --host=127.0.0.1": (Role.DAEMON, "dashboard"),
    "/x/.venv/bin/python ray_app.py bundle=emoji --port 8000": (Role.LAUNCHER, "ray_app"),
    "/x/.venv/bin/python /x/.venv/bin/serve run ray_app:graph": (Role.LAUNCHER, "serve run"),
    "/x/.venv/bin/python -B -c from multiprocessing.resource_tracker import main;main(25)": (Role.OTHER, "python"),
    "/usr/bin/raylet-viewer": (Role.OTHER, "raylet-viewer"),
    "": (Role.OTHER, ""),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_is_known_by_its_command_line(command: str) -> None:
    assert classify(command) == COMMANDS[command]


def test_peaks_are_each_processs_own_and_the_sum_is_of_one_moment() -> None:
    denoiser, proxy = "ray::ServeReplica:default:denoiser", "ray::ProxyActor"
    peaks = summarise(
        [
            (process(1, denoiser, 500), process(2, proxy, 100), process(3, "ray::IDLE", 40)),
            (process(1, denoiser, 300), process(2, proxy, 250), process(3, "ray::IDLE", 90)),
        ]
    )
    assert [(peak.name, peak.pss, peak.rss, peak.counted) for peak in peaks.processes] == [
        ("denoiser", 500 * MB, 1500 * MB, True),
        ("ProxyActor", 250 * MB, 750 * MB, True),
        ("IDLE", 90 * MB, 270 * MB, False),
    ]
    assert peaks.counted_pss == 600 * MB
    assert peaks.all_pss == 640 * MB
    assert peaks.samples == 2


def test_a_worker_that_becomes_a_replica_is_one_from_the_start() -> None:
    peaks = summarise([(process(1, "ray::IDLE", 80),), (process(1, "ray::ServeReplica:default:graph", 60),)])
    [peak] = peaks.processes
    assert (peak.role, peak.pss) == (Role.REPLICA, 80 * MB)
    assert peaks.counted_pss == 80 * MB


def test_the_sampler_sees_a_process_and_its_children() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        with MemorySampler(parent.pid) as sampler:
            pass
        parent.communicate(b"\n")
    assert len(sampler.samples) == 2
    for sample in sampler.samples:
        assert len(sample) == 2
        assert sample[0].pid == parent.pid
        assert all(MB < process.pss <= process.rss for process in sample)

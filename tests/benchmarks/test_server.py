from pathlib import Path

from benchmarks.server import environment


def test_the_server_has_nothing_of_other_registries_and_clusters() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "MLFLOW_TRACKING_URI": "http://mlflow",
        "LATENTWORKS_HOME": "/home/me/registry",
        "LATENTWORKS_DENOISER__REPLICAS": "8",
    }
    assert environment(given, Path("/tmp/lw")) == {
        "PATH": "/bin",
        "HOME": "/tmp/lw",
        "RAY_TMPDIR": "/tmp/lw",
        "LATENTWORKS_HOME": "/tmp/lw/registry",
    }

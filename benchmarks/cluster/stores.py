"""What the pods of a cluster have in common: Redis, the registry, its database and that of jobs, a bucket, keys."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import postgresql as databases
from benchmarks.cluster.variables import pool_variables
from benchmarks.errors import BenchmarkError
from benchmarks.mlflow_server import mlflow_server
from benchmarks.object_store import BUCKET, KEY, KEY_ID, REGION, ObjectStore, object_store
from benchmarks.postgresql import Server
from benchmarks.server import HOST, environment, free_port
from services.keys.records import ROLES, KeyRecord, digest_of, line_of, new_key
from services.keys.settings import KeyLimits

_ROOT = Path(__file__).resolve().parents[2]
_MODEL = _ROOT / "models" / "emoji"
_DATABASES = _ROOT / "k8s" / "overlays" / "gpu" / "databases.sql"
REGISTRY, JOBS = "mlflow", "latentworks"
# the Secret `latentworks-bucket`
_BUCKET_KEY = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": KEY}


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything that outlives a node; `key` is let in by the ingress, for pictures and for operating."""

    folder: Path
    redis_port: int
    databases: Server
    bucket: ObjectStore
    registry: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What a request is let in by."""
        return {"authorization": f"Bearer {self.key}"}

    def variables(self, pool: str) -> dict[str, str]:
        """The environment of a pool's nodes: the overlay's, and where a bucket is that is not of AWS."""
        secrets = {"latentworks-secrets": _secrets(self.databases), "latentworks-bucket": _BUCKET_KEY}
        here = pool_variables(pool, secrets, self.registry, self.folder)
        return {**here, "AWS_ENDPOINT_URL": self.bucket.url, "AWS_REGION": REGION}

    def publish(self) -> None:
        """Publish the bundled model, and promote it, by the command that anybody would take.

        Raises:
            BenchmarkError: it fails.
        """
        home = self.folder / "publisher"
        command = [sys.executable, "-m", "registry", "publish", str(_MODEL)]
        # by the registry's address alone: who publishes needs neither its database nor the bucket
        known = {**environment(os.environ, home), "MLFLOW_TRACKING_URI": self.registry}
        done = subprocess.run(command, cwd=_ROOT, env=known, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"registry publish: {done.stderr.strip()[-500:]}")


def _secrets(server: Server) -> dict[str, str]:
    """The Secret `latentworks-secrets` by its keys, but for passwords of services that have none here."""
    return {
        "mlflow-database": server.address_of(REGISTRY),
        "jobs-database": server.address_of(JOBS),
        "bucket": f"s3://{BUCKET}/components",
        "latents-store": f"s3://{BUCKET}/latents",
        "pictures-store": f"s3://{BUCKET}/pictures",
    }


@contextmanager
def local_stores(folder: Path) -> Iterator[Stores]:
    """Redis for what Ray's head knows, PostgreSQL, a bucket, MLflow on these two; all are gone after the block.

    Raises:
        BenchmarkError: one of them is not installed, or does not start.
    """
    with _redis(folder) as redis_port, databases.postgresql() as server, object_store() as bucket:
        # the image of PostgreSQL makes the first, and runs the file
        server.run(f"CREATE DATABASE {REGISTRY}")
        server.run(_DATABASES.read_text(encoding="utf-8"))
        secrets = _secrets(server)
        variables = {
            "MLFLOW_BACKEND_STORE_URI": secrets["mlflow-database"],
            "MLFLOW_ARTIFACTS_DESTINATION": secrets["bucket"],
            "MLFLOW_S3_ENDPOINT_URL": bucket.url,
            **_BUCKET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }
        key = _let_in(folder / "secrets")
        with mlflow_server(folder / "mlflow", variables) as registry:
            yield Stores(folder, redis_port, server, bucket, registry.url, key)


@contextmanager
def _redis(folder: Path) -> Iterator[int]:
    port = free_port()
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BenchmarkError("redis-server is not installed; Debian's package is called so") from None
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _let_in(folder: Path) -> str:
    key = new_key()
    record = KeyRecord("cluster", digest_of(key.encode()), ROLES, KeyLimits())
    folder.mkdir()
    (folder / "keys").write_text(f"{line_of(record)}\n", encoding="utf-8")
    return key

"""Where stores may have their files, as a test looks at them: by the file system, and by AWS's own client."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.object_store import BUCKET, KEY, KEY_ID, REGION, object_store


class PlaceLike(Protocol):
    """What is in a place, by whatever is not ours."""

    @property
    def store(self) -> str:
        """How the settings name it."""

    @property
    def files(self) -> list[str]:
        """The names of what is there."""

    def read(self, name: str) -> bytes:
        """What a file holds."""

    def write(self, name: str, content: bytes) -> None:
        """Put a file there."""

    def remove(self, name: str) -> None:
        """Take a file away."""


@dataclass
class FolderPlace:
    path: Path

    @property
    def store(self) -> str:
        return str(self.path)

    @property
    def files(self) -> list[str]:
        return sorted(file.name for file in self.path.iterdir())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.path / name).write_bytes(content)

    def remove(self, name: str) -> None:
        (self.path / name).unlink()


@dataclass
class BucketPlace:
    client: Any
    prefix: str

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def files(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted(one["Key"].removeprefix(f"{self.prefix}/") for one in found)

    def read(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=content)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")


@contextmanager
def s3_client() -> Iterator[Any]:
    """AWS's client of a server of S3 on this machine, which has one bucket."""
    pytest.importorskip("boto3", reason="AWS's client is not installed")
    pytest.importorskip("moto.server", reason="moto's server is not installed")
    with object_store() as service:
        yield service.client


def with_variables(patch: pytest.MonkeyPatch, address: str) -> None:
    """Let this process know a service of S3 as a deployer would."""
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
    }.items():
        patch.setenv(name, value)

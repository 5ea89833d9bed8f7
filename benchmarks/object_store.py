"""A service that speaks the protocol of S3, on a free port of this machine alone, in memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.server import HOST

BUCKET = "pictures"
KEY_ID, KEY = "the-buckets-key-id", "the-buckets-key"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Where it listens, and AWS's own client of it."""

    url: str
    client: Any

    def names(self, prefix: str) -> list[str]:
        """What is in the bucket under a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sorted(one["Key"] for page in pages for one in page.get("Contents", []))


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A service with one bucket, of which nothing is left after the block.

    Raises:
        BenchmarkError: moto or AWS's client is not installed.
    """
    with listening() as url:
        import boto3

        client = boto3.client(
            "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=KEY
        )
        try:
            client.create_bucket(Bucket=BUCKET)
            yield ObjectStore(url, client)
        finally:
            client.close()


@contextmanager
def listening(port: int = 0) -> Iterator[str]:
    """The service alone, on a port that is given or a free one; it forgets nothing as long as this process lives.

    Raises:
        BenchmarkError: moto is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise BenchmarkError("moto's server is not installed: pip install '.[dev]'") from None
    # else it would write a line for each request
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(HOST, port, verbose=False)
    server.start()
    try:
        _, bound = server.get_host_and_port()
        yield f"http://{HOST}:{bound}"
    finally:
        server.stop()

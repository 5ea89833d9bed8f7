"""A way into the cluster: the proxy of one node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

GENERATIONS = "/v1/images/generations"
ANSWER_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where a proxy listens, and what a request is let in by."""

    url: str
    headers: Mapping[str, str]

    def client(self) -> httpx.Client:
        """A client that keeps its line, for whoever asks often."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=ANSWER_WITHIN_S, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        """What is answered, whatever it is."""
        with self.client() as client:
            return client.get(path)

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """What is answered to a body.

        Raises:
            httpx.HTTPError: it is no success, or nobody answers.
        """
        with self.client() as client:
            return client.post(path, json=dict(body)).raise_for_status()

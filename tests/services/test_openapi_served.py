"""schemathesis on a real cluster: what the document says holds for every request that it and its opposite lead to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.ingress.reference import described
from tests.services.cluster import MOST_SECONDS, Application, Cluster

schemathesis = pytest.importorskip("schemathesis")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# so that what is drawn costs little
RULES = {"default_steps": 2, "max_steps": 4, "max_pixels": 2**14, "max_images": 2}
OPERATIONS = [
    (method.upper(), path) for path, operations in described()[0].openapi()["paths"].items() for method in operations
]


@pytest.fixture(scope="module")
def served(cluster: Cluster, toy_bundle: Path) -> Iterator[Application]:
    with cluster.deployed("openapi", "toy", toy_bundle, rules=RULES) as application:
        yield application


@pytest.fixture(scope="module")
def schema(served: Application) -> Any:
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_says_holds(served: Application, schema: Any, method: str, path: str) -> None:
    operation = schema[path][method]
    wanted = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    # what a model takes at most, and which versions there are, is not in the document but in GET /v1/capabilities
    untold = method == "POST" or path.endswith("/compare")
    not_told = [schemathesis.checks.positive_data_acceptance] if untold else []

    @given(case=st.one_of(*wanted))
    @settings(
        max_examples=30,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: Any) -> None:
        case.call_and_validate(base_url=served.url, excluded_checks=not_told, timeout=MOST_SECONDS)

    holds()

"""The Grafana dashboard: every query against the metrics that there are."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.metrics.catalogue import METRICS
from services.metrics.declared import PREFIX
from tests.k8s.promql import WrongQueryError, check, names
from tests.k8s.series import SERIES

FILE = Path(__file__).parents[2] / "k8s" / "grafana" / "latentworks.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
QUERIES = [
    pytest.param(panel, target, id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
# Grafana's units of what a query gives
UNITS = {
    "": {"short", "none"},
    "/s": {"cps", "ops", "reqps"},
    "seconds": {"s"},
    "milliseconds": {"ms"},
    "bytes": {"bytes"},
    "bytes/s": {"Bps"},
    "ratio": {"percentunit", "short"},
}
DASHBOARDS_OWN = {"__rate_interval", "__all"}
COUNTER = 'ray_latentworks_requests_total{status=~"5.."}'
BUCKETS = "rate(ray_latentworks_phase_seconds_bucket[5m])"


@pytest.mark.parametrize(("panel", "target"), QUERIES)
def test_a_query_asks_for_what_there_is(panel: dict[str, Any], target: dict[str, Any]) -> None:
    found = check(target["expr"])
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS[found.unit]
    labels = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
    assert labels == (found.labels or frozenset()), "the legend tells the lines apart"


@pytest.mark.parametrize("name", sorted(VARIABLES.keys() - {"datasource"}))
def test_a_variable_asks_for_what_there_is(name: str) -> None:
    variable = VARIABLES[name]
    asked = LABEL_VALUES.fullmatch(variable["query"]["query"])
    assert asked is not None
    # the values of a label, however its series count
    [series] = names(asked[1])
    assert asked[2] == name
    assert name in SERIES[series].labels
    check(f"rate({asked[1]}[5m])" if SERIES[series].part != "gauge" else asked[1])
    # with All chosen, also what has no such label: not every Prometheus adds the namespace
    assert (variable["includeAll"], variable["allValue"]) == (True, ".*")


def test_every_metric_is_shown() -> None:
    asked = {name for panel in PANELS for target in panel["targets"] for name in names(target["expr"])}
    shown = {re.sub("_(bucket|sum|count)$", "", name) if name not in SERIES else name for name in asked}
    families = {name.removesuffix("_bucket").removeprefix(PREFIX) for name in shown}
    assert METRICS.keys() - families == set()


def test_every_panel_says_what_it_shows() -> None:
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    titles = Counter(panel["title"] for panel in PANELS)
    assert titles.most_common(1)[0][1] == 1


def test_panels_have_an_id_and_a_place_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken), "one lies on another"
    assert max(x for x, _ in taken) < 24


def test_the_dashboard_knows_its_variables() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert VARIABLES["datasource"]["type"] == "datasource"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - DASHBOARDS_OWN == VARIABLES.keys()


def test_rows_are_those_of_an_operators_questions() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Traffic and errors",
        "Where the time goes",
        "Denoiser",
        "Versions and rollouts",
        "Caches and stores",
        "Jobs",
        "Replicas lost",
    ]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (f"sum(rate({COUNTER.replace('requests', 'request')}[5m]))", "ray_latentworks_request_total: there is no such"),
        ("latentworks_jobs", "latentworks_jobs: there is no such series"),
        (f"sum(rate({COUNTER.replace('status', 'code')}[5m]))", "requests_total: has no label code"),
        (f"sum by (stage) (rate({COUNTER}[5m]))", "stage: no label of"),
        (f"sum without (stage) (rate({COUNTER}[5m]))", "stage: no label of"),
        ('ray_latentworks_jobs{status="done"}', "status is never done, but one of queued"),
        ('ray_latentworks_jobs{status=~"complete|fail"}', "status is never complete"),
        (COUNTER, "shows a counter"),
        (f"sum({COUNTER})", "summed up before its rate"),
        (f"sum(rate({COUNTER}[5m])) / sum({COUNTER})", "summed up before its rate"),
        ("rate(ray_latentworks_jobs[5m])", "rate: of a gauge"),
        (BUCKETS, "buckets, as they are"),
        (f"sum by (le) ({BUCKETS})", "buckets, as they are"),
        (f"histogram_quantile(0.5, sum by (stage) ({BUCKETS}))", "le was summed away"),
        ("histogram_quantile(0.5, ray_latentworks_phase_seconds_bucket)", "needs the rate"),
        (f"histogram_quantile(0.5, sum by (le) ({BUCKETS.replace('_bucket', '_sum')}))", "le: no label of"),
        (f"histogram_quantile(0.5, {BUCKETS.replace('_bucket', '_count')})", "needs the rate of buckets"),
        (f"sum by (status) (rate({COUNTER}[5m])) / sum(rate({COUNTER}[5m]))", "other labels"),
        (f"sum(rate({COUNTER}[5m])", "unclosed left parenthesis"),
    ],
)
def test_a_query_that_is_wrong_is_found_out(query: str, why: str) -> None:
    with pytest.raises(WrongQueryError, match=re.escape(why)):
        check(query)


@pytest.mark.parametrize(
    ("query", "unit"),
    [
        (f"rate({COUNTER}[5m])", "/s"),
        (f"increase({COUNTER}[5m])", ""),
        (f"histogram_quantile(0.9, sum by (le) ({BUCKETS}))", "seconds"),
        ("sum(ray_latentworks_jobs_bytes)", "bytes"),
        ("sum(rate(ray_latentworks_sent_bytes_total[5m]))", "bytes/s"),
    ],
)
def test_units_follow_from_the_query(query: str, unit: str) -> None:
    assert check(query).unit == unit

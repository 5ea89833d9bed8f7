"""What holds for all tests: in CI a skipped test is a failed one, and so is a module that skips itself."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.differences import Measured

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# Collecting makes millions of objects that all stay: looking among them for garbage took two fifths of its time.
gc.disable()

# What a shell starts in the background ignores interrupts, and so would all that it starts; tests interrupt some of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# a table is as wide as its cells: a figure that came out wider would break a word that a test looks for
os.environ["COLUMNS"] = "300"

# a test has no time limit: the machine may be busy with something else
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    what = "write how far pictures are from those of the references to this JSON file, over what stands there of them"
    parser.addoption("--differences", type=Path, metavar="FILE", help=what)


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Iterator[Measured]:
    """How far pictures are from those of the references."""
    found = Measured()
    yield found
    if (file := request.config.getoption("--differences")) is not None:
        found.write(file)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    return report if hasattr(report, "wasxfail") else _failed_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_in_ci((yield))


def _failed_in_ci(report: Report) -> Report:
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped in CI, where everything must run: {report.longrepr}"
    return report

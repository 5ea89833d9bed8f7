"""What components take of disk and time, measured in turn, so that what else the machine does slows all of them."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.folder import ComponentFolder
from exporters.storage import DATA_NAME, GRAPH_NAME
from runtime.feeds import Feeds
from runtime.session import Session
from runtime.settings import SessionSettings

_WARM_UP = 3


def megabytes(path: Path) -> float:
    """The size of a component's graph and weights, without its golden cases."""
    files = ComponentFolder.open(path).manifest.files
    return sum(record.size for name, record in files.items() if name in (GRAPH_NAME, DATA_NAME)) / 1e6


def milliseconds(paths: Sequence[Path], feeds: Feeds, threads: int, rounds: int = 100) -> list[float]:
    """The median time of one run of each component on the same `feeds`, on the CPU, in the order of `paths`."""
    settings = SessionSettings(provider="cpu", threads=threads)
    sessions = [Session.open(ComponentFolder.open(path), settings) for path in paths]
    taken = np.empty((_WARM_UP + rounds, len(sessions)))
    for row in taken:
        for place, session in enumerate(sessions):
            begun = time.perf_counter()
            session.run(feeds)
            row[place] = time.perf_counter() - begun
    medians: list[float] = (np.median(taken[_WARM_UP:], axis=0) * 1e3).tolist()
    return medians

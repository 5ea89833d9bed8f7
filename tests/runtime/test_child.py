"""Of a child in a group of its own nothing is left behind, however the block around it ends."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from runtime.child import child

# a grandchild that outlives its parent and says who it is
STARTS_ONE = "sleep 600 & echo $!"


def gone(pid: int) -> bool:
    """Whether a process has ended; one whose parent has not asked for its status yet has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def comes_to_be_gone(pid: int) -> bool:
    """Whether a process that was killed a moment ago is gone before long."""
    for _ in range(1000):
        if gone(pid):
            return True
        time.sleep(0.01)
    return False


def test_what_an_ended_child_started_is_gone_too() -> None:
    with (
        tempfile.TemporaryFile() as log,
        child(["sh", "-c", STARTS_ONE], os.environ, log, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        assert process.wait() == 0
        assert not gone(grandchild)

    assert comes_to_be_gone(grandchild)


def interrupted(found: list[int]) -> None:
    """Note who runs in a block that is broken off."""
    command = ["sh", "-c", f"{STARTS_ONE}; exec sleep 600"]
    with tempfile.TemporaryFile() as log, child(command, os.environ, log, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found += [process.pid, int(process.stdout.readline())]
        raise KeyboardInterrupt


def test_a_child_and_what_it_started_are_gone_after_an_exception() -> None:
    found: list[int] = []

    with pytest.raises(KeyboardInterrupt):
        interrupted(found)

    assert len(found) == 2
    assert all(map(comes_to_be_gone, found))


def test_a_child_that_waits_for_its_input_ends_with_the_block() -> None:
    with tempfile.TemporaryFile() as log, child(["cat"], os.environ, log) as process:
        assert process.poll() is None

    assert process.returncode is not None


def test_what_it_says_in_distress_is_in_the_log() -> None:
    with tempfile.TemporaryFile() as log:
        with child(["sh", "-c", "echo ouch >&2; exit 3"], os.environ, log) as process:
            assert process.wait() == 3
        log.seek(0)
        assert log.read() == b"ouch\n"

import mmap
import os
import subprocess
import sys

import numpy as np

from benchmarks.processes import family, own_memory, read_memory

# the kernel keeps these counts for each core and adds them up now and then
COUNTED_LATE = 4_000_000


def test_memory_of_this_process_grows_by_what_it_takes() -> None:
    before = own_memory()
    # from the kernel itself: the heap may have room of earlier tests that counts already
    taken = mmap.mmap(-1, 50_000_000)
    np.frombuffer(taken, np.uint8)[:] = 1
    after = own_memory()
    assert after.pid == os.getpid()
    assert "python" in after.command or "pytest" in after.command
    assert 40_000_000 < after.pss - before.pss < 80_000_000
    assert after.rss >= after.pss
    assert after.peak_rss > after.rss - COUNTED_LATE
    taken.close()
    assert own_memory().pss < after.pss
    assert own_memory().peak_rss > after.peak_rss - COUNTED_LATE


def test_a_process_that_has_ended_has_no_memory_and_no_family() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert read_memory(child.pid) is not None
        assert family(child.pid) == [child.pid]
        assert child.pid in family(os.getpid())
        child.communicate(b"\n")
    assert read_memory(child.pid) is None
    assert family(child.pid) == []


def test_a_process_that_waits_for_its_parent_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert read_memory(child.pid) is None
    child.wait()

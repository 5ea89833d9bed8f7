import subprocess
import sys
import threading
from pathlib import Path

import pytest

from registry.errors import RegistryError
from registry.local.lock import locked

_HOLD = """
import sys
from pathlib import Path
from registry.local.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def _holder(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_waits_and_a_dead_one_gives_its_lock_back(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "one.lock"
    with _holder(file) as holder:
        with (
            pytest.raises(RegistryError, match=r"another process has kept the lock one.lock for 0.1 s"),
            locked(file, wait_s=0.1),
        ):
            pass
        holder.kill()
    with locked(file, wait_s=1):
        pass


def test_another_thread_waits(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with locked(tmp_path / "one.lock", wait_s=0.1):
                pass
        except RegistryError as error:
            refused.append(error)

    with locked(tmp_path / "one.lock"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_the_same_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    with locked(tmp_path / "one.lock", wait_s=0.1), locked(tmp_path / "one.lock", wait_s=0.1):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be used"), locked(tmp_path / "file" / "locks" / "one.lock"):
        pass

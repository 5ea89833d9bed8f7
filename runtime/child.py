"""A child process in a group of its own, of which nothing is left behind."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def child(
    command: Sequence[str], env: Mapping[str, str], log: IO[bytes], stdout: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command whose standard input is a pipe and whose errors go to `log`.

    At the end of the block, also by an exception, the child and all that it started are gone.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stdout, stderr=log, env=env, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            # the group is the child's own, and holds what it started also after its own end
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

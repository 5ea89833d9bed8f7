"""A PostgreSQL server of Debian's, for the time of some tests: on a free port of this machine alone."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

# with what an address must spell otherwise
PASSWORD = "a secret/of:tests@100%"
USER = "tests"


def _programs() -> Path | None:
    if (found := shutil.which("pg_ctl")) is not None:
        return Path(found).resolve().parent
    # Debian has them in no PATH, a folder for each version
    here = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda file: int(file.parts[-3]))
    return here[-1].parent if here else None


@dataclass
class Server:
    """A running server, and addresses in it that share nothing."""

    programs: Path
    data: Path
    port: int
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def address(self) -> str:
        return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def fresh(self) -> str:
        """The address of a schema that has nothing in it."""
        name = f"store_{next(self.numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"{self.address}?options={quote(f'-c search_path={name}')}"

    def run(self, statement: str) -> None:
        with connect(self.address) as connection:
            connection.execute(statement)

    def start(self) -> None:
        where = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= -c fsync=off"
        self._control("start", "-w", "-l", str(self.data / "log"), "-o", where)

    def stop(self) -> None:
        self._control("stop", "-w", "-m", "fast")

    def _control(self, *arguments: str) -> None:
        as_user([str(self.programs / "pg_ctl"), "-D", str(self.data), *arguments])


def connect(address: str) -> Any:
    """A connection that is none of ours."""
    import psycopg

    return psycopg.connect(address.replace("+psycopg", ""), autocommit=True)


def as_user(command: list[str]) -> None:
    """Run one of its programs, none of which the superuser may."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    # not by a pipe: the server would have it, and never let go of it
    with tempfile.TemporaryFile() as said:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False, **user
        )  # type: ignore[call-overload]
        said.seek(0)
        assert ended.returncode == 0, said.read().decode()


@contextmanager
def server() -> Iterator[Server]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed")
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    # none of pytest's folders, which are of whoever runs the tests alone
    with tempfile.TemporaryDirectory(prefix="postgresql-of-tests-") as folder:
        password = Path(folder) / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (Path(folder), password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = Path(folder) / "data"
        who = ["-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        as_user([str(programs / "initdb"), "-D", str(data), *who, "--encoding=UTF8", "--locale=C", "--no-sync"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        made = Server(programs, data, port)
        made.start()
        try:
            yield made
        finally:
            made.stop()

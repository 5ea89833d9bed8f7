"""A PostgreSQL server of Debian's, on a free port of this machine alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.errors import BenchmarkError
from benchmarks.server import HOST, free_port

# with what an address must spell otherwise
PASSWORD = "a secret/of:latents@100%"
USER = "latentworks"
_DEBIANS = Path("/usr/lib/postgresql")


@dataclass
class Server:
    """A running server, and addresses in it that share nothing."""

    programs: Path
    data: Path
    port: int
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def address(self) -> str:
        """The address of the database that every server has."""
        return self.address_of("postgres")

    def address_of(self, database: str) -> str:
        """The address of a database, as the settings name one."""
        return f"postgresql+psycopg://{USER}:{quote(PASSWORD, safe='')}@{HOST}:{self.port}/{database}"

    def fresh(self) -> str:
        """The address of a schema that has nothing in it."""
        name = f"store_{next(self.numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"{self.address}?options={quote(f'-c search_path={name}')}"

    def run(self, statement: str) -> None:
        """Have a statement done, by none of our code."""
        with connect(self.address) as connection:
            connection.execute(statement)

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """What a database answers to a query."""
        with connect(self.address_of(database)) as connection:
            found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
        return found

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        where = f"-c listen_addresses={HOST} -c port={self.port} -c unix_socket_directories= -c fsync=off"
        self._control("start", "-w", "-l", str(self.data / "log"), "-o", where)

    def stop(self) -> None:
        """End it; whoever is connected is cut off."""
        self._control("stop", "-w", "-m", "fast")

    def _control(self, *arguments: str) -> None:
        _as_user([str(self.programs / "pg_ctl"), "-D", str(self.data), *arguments])


def connect(address: str) -> Any:
    """A connection that is none of ours."""
    import psycopg

    return psycopg.connect(address.replace("+psycopg", ""), autocommit=True)


def require() -> Path:
    """The folder of the server's programs.

    Raises:
        BenchmarkError: it or its driver is not installed.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise BenchmarkError("PostgreSQL's driver is not installed: pip install '.[postgresql]'") from None
    if (found := shutil.which("pg_ctl")) is not None:
        return Path(found).resolve().parent
    # Debian has them in no PATH, a folder for each version
    here = sorted(_DEBIANS.glob("*/bin/pg_ctl"), key=lambda file: int(file.parts[-3]))
    if not here:
        raise BenchmarkError("PostgreSQL's server is not installed; Debian's package is called postgresql")
    return here[-1].parent


@contextmanager
def postgresql() -> Iterator[Server]:
    """A server without anything in it, gone after the block.

    Raises:
        BenchmarkError: it or its driver is not installed, or it does not start.
    """
    programs = require()
    # not in a folder of whoever runs this, as the server runs as another user
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        password = Path(folder) / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (Path(folder), password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = Path(folder) / "data"
        who = ["-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        _as_user([str(programs / "initdb"), "-D", str(data), *who, "--encoding=UTF8", "--locale=C", "--no-sync"])
        made = Server(programs, data, free_port())
        made.start()
        try:
            yield made
        finally:
            made.stop()


def _as_user(command: list[str]) -> None:
    """Run one of its programs, none of which the superuser may."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    # not by a pipe: the server would have it, and never let go of it
    with tempfile.TemporaryFile() as said:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False, **user
        )  # type: ignore[call-overload]
        said.seek(0)
        if ended.returncode != 0:
            raise BenchmarkError(f"{Path(command[0]).name}: {' '.join(said.read().decode().split())[-500:]}")

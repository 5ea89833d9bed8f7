"""Keys from a file that changes while they are in use, and from the settings."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.errors import StartError
from services.keys.records import digest_of
from services.keys.settings import KeySettings
from services.keys.source import KeySource

CANARY = "canary-44aa"


def line(name: str, key: str = "", options: str = "") -> str:
    return f"{name}:{digest_of((key or name).encode()).hex()} {options}"


class Kept:
    """A source on a file, and what it told of it."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.source = KeySource(KeySettings(file=path, **settings))
        self.told: list[tuple[int, bool]] = []

    def looks(self, times: int = 2) -> None:
        async def look() -> None:
            for _ in range(times):
                await self.source.look(lambda count, refused: self.told.append((count, refused)))

        asyncio.run(look())

    def knows(self, *keys: str) -> list[bool]:
        assert self.source.keyring is not None
        return [self.source.keyring.find(key.encode()) is not None for key in keys]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.write_text(f"# ours\n{line('ann')}\n", encoding="utf-8")
    return made


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def replace(path: Path, text: str) -> None:
    """As editors and `mv` do: another file under the name, with the same size and time."""
    before = path.stat()
    other = path.with_name("other")
    other.write_text(text, encoding="utf-8")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def relink(path: Path, text: str) -> None:
    """As Kubernetes does with a Secret: a link to another folder takes the place of a link."""
    folder = path.with_name("..later")
    folder.mkdir()
    (folder / "keys").write_text(text, encoding="utf-8")
    link = path.with_name("..link")
    link.symlink_to(folder / "keys")
    link.replace(path)


def test_a_file_that_stays_is_not_read_again(path: Path) -> None:
    kept = Kept(path)
    kept.looks(5)
    assert (kept.told, kept.knows("ann")) == ([], [True])


@pytest.mark.parametrize("how", [append, replace, relink], ids=lambda how: how.__name__)
def test_another_content_is_taken_without_a_restart(path: Path, how: Callable[[Path, str], None]) -> None:
    kept = Kept(path)
    kept.looks()
    # one letter longer or not, its size may be the same
    how(path, f"# ours\n{line('ben')}\n")
    kept.looks()
    assert kept.knows("ben", "ann") == [True, how is append]
    assert kept.told == [(2 if how is append else 1, False)]


def test_a_file_that_is_being_written_is_left_alone(path: Path) -> None:
    kept = Kept(path)
    for name in ("ben", "cid", "dan"):
        append(path, line(name) + "\n")
        kept.looks(1)
        assert kept.told == []
    kept.looks(1)
    assert kept.told == [(4, False)]


def test_a_key_that_is_taken_out_is_not_let_in_any_more_even_if_it_was_the_last(path: Path) -> None:
    kept = Kept(path)
    path.write_text("# nobody\n", encoding="utf-8")
    kept.looks()
    assert (kept.told, kept.knows("ann")) == ([(0, False)], [False])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (f"{CANARY}\n", "line 3: must begin with NAME:SHA256, the digest in 64 small hexadecimal digits"),
        (line("ben", options=f"burst={CANARY}"), "line 3: burst: has a value outside its limits, which"),
    ],
)
def test_a_damaged_file_leaves_the_keys_before_and_is_told_by_the_line(
    path: Path, damage: str, said: str, serve_log: pytest.LogCaptureFixture
) -> None:
    kept = Kept(path)
    append(path, damage)
    kept.looks(5)
    assert (kept.told, kept.knows("ann", "ben")) == ([(1, True)], [True, False])
    [logged] = serve_log.messages
    assert logged.startswith(f"keys.file: {said}")
    assert logged.endswith("; the keys before stay in use")
    assert CANARY not in serve_log.text
    path.write_text(line("ben"), encoding="utf-8")
    kept.looks()
    assert (kept.told[1:], kept.knows("ann", "ben")) == ([(1, False)], [False, True])


def test_bytes_that_are_no_text_are_told_by_the_line(path: Path, serve_log: pytest.LogCaptureFixture) -> None:
    kept = Kept(path)
    path.write_bytes(b"# ours\n\xff" + CANARY.encode())
    kept.looks()
    assert serve_log.messages == ["keys.file: line 2: is not UTF-8; the keys before stay in use"]
    assert (kept.told, kept.knows("ann")) == ([(1, True)], [True])


def test_a_file_that_goes_and_comes_back(path: Path, serve_log: pytest.LogCaptureFixture) -> None:
    kept = Kept(path)
    away = path.rename(path.with_name("away"))
    kept.looks(5)
    assert kept.knows("ann") == [True]
    assert serve_log.messages == ["keys.file: cannot be read: No such file or directory; the keys before stay in use"]
    assert (kept.told[-1], str(path) in serve_log.text) == ((1, True), False)
    away.rename(path)
    kept.looks()
    assert (kept.told[-1], kept.knows("ann")) == ((1, False), [True])


def test_a_disk_that_fails_for_a_time_is_asked_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, serve_log: pytest.LogCaptureFixture
) -> None:
    kept = Kept(path)
    append(path, line("ben"))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", fail)
        kept.looks(4)
    assert serve_log.messages == ["keys.file: cannot be read: Input/output error; the keys before stay in use"]
    assert kept.knows("ann", "ben") == [True, False]
    kept.looks(1)
    assert (kept.told[-1], kept.knows("ann", "ben")) == ((2, False), [True, True])


def test_a_file_of_no_end_is_refused(path: Path) -> None:
    path.write_text("#" * 2**20 + "\n", encoding="utf-8")
    with pytest.raises(StartError, match="keys.file: must have at most 1048576 bytes"):
        Kept(path)


def test_a_start_with_a_wrong_file_fails(path: Path) -> None:
    append(path, CANARY)
    with pytest.raises(StartError, match="^keys.file: line 3: must begin") as raised:
        Kept(path)
    assert CANARY not in str(raised.value)
    with pytest.raises(StartError, match="^keys.file: cannot be read: No such file") as raised:
        Kept(path.with_name("nowhere"))
    assert str(path.parent) not in str(raised.value)


def test_the_settings_may_hold_the_lines_themselves() -> None:
    text = f"{line('ann')};{line('ben')}\n{line('cid')};"
    settings = KeySettings(records=SecretStr(text), concurrent_pictures=2)
    keyring = KeySource(settings).keyring
    assert keyring is not None
    assert [keyring.find(key) is not None for key in (b"ann", b"ben", b"cid", b"dan")] == [True, True, True, False]
    assert digest_of(b"ann").hex() not in repr(settings)
    with pytest.raises(StartError, match="^keys.records: line 2: must begin"):
        KeySource(KeySettings(records=SecretStr(f"{line('ann')};{CANARY}")))


def test_without_either_no_key_is_asked_for() -> None:
    assert KeySource(KeySettings()).keyring is None


def test_none_at_all_is_said_where_keys_are_asked_for(path: Path, serve_log: pytest.LogCaptureFixture) -> None:
    path.write_text("", encoding="utf-8")
    kept = Kept(path)
    assert kept.knows("ann") == [False]
    assert serve_log.messages == ["there is no key: every call that needs one is refused"]


def test_limits_of_the_settings_are_those_of_keys_without(path: Path) -> None:
    append(path, line("ben", options="concurrent_pictures=none"))
    kept = Kept(path, concurrent_pictures=3)
    assert kept.source.keyring is not None
    found = [kept.source.keyring.find(key) for key in (b"ann", b"ben")]
    assert [one and one.allowance.limits.concurrent_pictures for one in found] == [3, None]


def test_the_file_is_followed_beside_everything_else(path: Path) -> None:
    async def scenario() -> list[tuple[int, bool]]:
        told: list[tuple[int, bool]] = []
        more = asyncio.Event()

        def tell(count: int, refused: bool) -> None:
            told.append((count, refused))
            more.set()

        following = asyncio.create_task(KeySource(KeySettings(file=path)).follow(tell, look_s=0.001))
        for text in ("", f"{line('ben')}\n", CANARY):
            append(path, text)
            await more.wait()
            more.clear()
        following.cancel()
        return told

    assert asyncio.run(scenario())[:3] == [(1, False), (2, False), (2, True)]

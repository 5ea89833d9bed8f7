"""The compiled copies of a node: found, made once whoever asks, held while they are used, and bounded on the disk."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from filelock import Timeout

from compiler.child import build_in_child, build_within_s
from compiler.collection import key_lock, require_room, reserve, take_away
from compiler.errors import CompilerError, NoRoomError
from compiler.key import copy_key
from compiler.lease import Lease
from compiler.record import LEASE_NAME, check
from compiler.settings import CompilerSettings
from components.errors import ComponentError
from components.folder import ComponentFolder
from runtime.compiled import CompiledFolder
from runtime.errors import RuntimeFault
from runtime.providers import provider_here
from runtime.settings import SessionSettings

_log = logging.getLogger(__name__)

# beyond the time of a build, after which it is ended
_ENDED_WITHIN_S = 60.0
# what could not be built is not tried again at every opening
_TRY_AGAIN_S = 3600.0
# Kernels keep a second form of most weights beside the first; float16 is widened to float32 besides.
_GROWTH = {"float32": 1.5, "float16": 3.0}

Stage = TypeVar("Stage")


class Outcome(StrEnum):
    """What became of the wish for a compiled copy; all but `HIT` and `BUILT` mean that the plain model serves."""

    HIT = "hit"
    BUILT = "built"
    BUILDING = "building"
    PROVIDER = "provider"
    SMALL = "small"
    DISK = "disk"
    FAILED = "failed"
    DAMAGED = "damaged"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Opened(Generic[Stage]):
    """What was opened, whether from a copy, and why not, in words, where something is amiss."""

    stage: Stage
    outcome: Outcome
    reason: str | None = None


class _NoCopy(Exception):  # noqa: N818 - it ends a search and is no fault
    """There is no copy, and none is to be made."""

    def __init__(self, outcome: Outcome, reason: str | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class CompiledCopies:
    """The copies in one folder; any number of objects, in any number of processes, may share it."""

    def __init__(self, settings: CompilerSettings) -> None:
        self._settings = settings
        self._folder = settings.folder

    def open(
        self,
        make: Callable[[ComponentFolder, SessionSettings], Stage],
        folder: ComponentFolder,
        session: SessionSettings,
        *,
        wait: bool,
    ) -> Opened[Stage]:
        """Open a component by `make` from its compiled copy, or from the component itself where there is none.

        Where a copy is to be made, `wait` waits for it, about as long as three openings of the plain model; else the
        plain model is opened at once, and the copy is made behind it for the next opening on this node. A copy that
        does not open is removed, and the plain model opened.

        Raises:
            ComponentError: the component's manifest cannot be read any more.
            Exception: what `make` raises on the plain model.
        """
        try:
            found, outcome = self._have(folder, session, wait)
        except _NoCopy as none:
            stage = make(folder, session)
            if none.outcome == Outcome.BUILDING:
                threading.Thread(target=self._build_behind, args=(folder, session), daemon=True).start()
            return Opened(stage, none.outcome, none.reason)
        try:
            return Opened(make(found, session), outcome)
        except RuntimeFault as fault:
            # where the plain model fails too, the copy is not to blame
            stage = make(folder, session)
            assert isinstance(found.lease, Lease), "find's"
            self._discard(found.copy, found.lease)
            return Opened(stage, Outcome.DAMAGED, str(fault))

    def find(self, folder: ComponentFolder) -> CompiledFolder | None:
        """A component with its whole copy on this node, leased to the caller; None where there is none.

        A damaged copy is removed.
        """
        copy = self._folder / copy_key(folder)
        lease = Lease.shared(copy / LEASE_NAME)
        if lease is None:
            # a folder without a lease file is no copy, only what is left of one
            if copy.exists() and not (copy / LEASE_NAME).exists():
                self._discard(copy, None)
            return None
        try:
            check(copy)
        except CompilerError as error:
            _log.warning("the compiled copy of %s is damaged and is removed: %s", folder.path.name, error)
            self._discard(copy, lease)
            lease.release()
            return None
        lease.touch()
        return CompiledFolder(folder.path, folder.manifest, copy, lease)

    def build(self, folder: ComponentFolder, session: SessionSettings) -> Path:
        """The copy of a component; made now, in a child process, where there is none. Others who want it wait.

        Raises:
            NoRoomError: it does not fit, on the disk or under the bound.
            CompilerError: it could not be made, or another process takes longer than any build may.
        """
        key = copy_key(folder)
        within_s = build_within_s(folder) + _ENDED_WITHIN_S
        try:
            return self._build_alone(folder, session, key, within_s)
        except Timeout:
            raise CompilerError(f"another process has been building for {within_s:g} s") from None

    def _have(self, folder: ComponentFolder, session: SessionSettings, wait: bool) -> tuple[CompiledFolder, Outcome]:
        self._refuse_at_once(folder, session)
        if (found := self.find(folder)) is not None:
            return found, Outcome.HIT
        self._refuse_to_build(folder)
        if not wait:
            raise _NoCopy(Outcome.BUILDING)
        try:
            self.build(folder, session)
        except NoRoomError as error:
            raise _NoCopy(Outcome.DISK, str(error)) from None
        except CompilerError as error:
            raise _NoCopy(Outcome.FAILED, str(error)) from None
        except OSError as error:
            raise _NoCopy(Outcome.DISK, _words(error)) from None
        if (found := self.find(folder)) is None:
            raise _NoCopy(Outcome.FAILED, "the copy was gone as soon as it was made")
        return found, Outcome.BUILT

    def _refuse_at_once(self, folder: ComponentFolder, session: SessionSettings) -> None:
        if self._settings.most_bytes == 0:
            raise _NoCopy(Outcome.OFF)
        if provider_here(session) != "cpu":
            raise _NoCopy(Outcome.PROVIDER)
        if _weight_bytes(folder) < self._settings.min_weight_bytes:
            raise _NoCopy(Outcome.SMALL)

    def _refuse_to_build(self, folder: ComponentFolder) -> None:
        failure = self._failure(copy_key(folder))
        if failure is not None:
            raise _NoCopy(Outcome.FAILED, failure)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            require_room(self._settings, _copy_bytes(folder))
        except NoRoomError as error:
            raise _NoCopy(Outcome.DISK, str(error)) from None
        except OSError as error:
            raise _NoCopy(Outcome.DISK, _words(error)) from None

    def _build_behind(self, folder: ComponentFolder, session: SessionSettings) -> None:
        try:
            self._build_alone(folder, session, copy_key(folder), 0)
        except Timeout:
            # another process is at it
            pass
        except (CompilerError, ComponentError, OSError) as error:
            _log.warning("no compiled copy of %s: %s", folder.path.name, error)

    def _build_alone(self, folder: ComponentFolder, session: SessionSettings, key: str, wait_s: float) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        with key_lock(self._folder, key, wait_s):
            return self._build(folder, session, key)

    def _build(self, folder: ComponentFolder, session: SessionSettings, key: str) -> Path:
        final = self._folder / key
        # of a process that died: we hold the lock
        for left in self._folder.glob(f".{key}-*"):
            shutil.rmtree(left, ignore_errors=True)
        # a damaged one stays until it is replaced, as the lock is ours
        if self.find(folder) is not None:
            return final
        if (failure := self._failure(key)) is not None:
            raise CompilerError(failure)
        work = reserve(self._settings, key, _copy_bytes(folder))
        try:
            fresh = work / "copy"
            fresh.mkdir()
            build_in_child(folder, session, fresh)
            check(fresh)
            if os.path.lexists(final):
                final.rename(work / "before")
            fresh.rename(final)
            self._marker(key).unlink(missing_ok=True)
        except CompilerError as error:
            self._marker(key).write_text(f"{error}\n", encoding="utf-8")
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final

    def _discard(self, copy: Path, seen: Lease | None) -> None:
        """Take a damaged copy away if it is still the one that was seen; who has it open keeps what it has."""
        try:
            with key_lock(self._folder, copy.name):
                file = copy / LEASE_NAME
                if not file.exists() if seen is None else seen.is_of(file):
                    take_away(copy)
        except (Timeout, FileNotFoundError):
            # another process makes it anew, or has taken it away
            pass
        except OSError as error:
            _log.warning("a damaged copy cannot be removed: %s", _words(error))

    def _failure(self, key: str) -> str | None:
        """Why the last build failed, if that was not long ago."""
        try:
            if time.time() - self._marker(key).stat().st_mtime < _TRY_AGAIN_S:
                return self._marker(key).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            pass
        return None

    def _marker(self, key: str) -> Path:
        return self._folder / f"{key}.failed"


def _weight_bytes(folder: ComponentFolder) -> int:
    golden = {case.file for case in folder.manifest.golden}
    return sum(record.size for name, record in folder.manifest.files.items() if name not in golden)


def _copy_bytes(folder: ComponentFolder) -> int:
    return int(_weight_bytes(folder) * _GROWTH[folder.manifest.weights])


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__

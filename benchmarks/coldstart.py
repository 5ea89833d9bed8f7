"""What compiled copies gain: opening from one beside opening the exported model, memory, run time, a new replica."""

import operator
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.opening import OpenedProcess, Opening
from benchmarks.ratios import Comparison, compare
from benchmarks.whole_unet import write_whole_unet
from compiler.copies import CompiledCopies
from compiler.record import verify
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from runtime.settings import SessionSettings

_READ_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often each is opened from a warm page cache, and how often each is run."""

    openings: int = 5
    runs: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A component's exported model beside its compiled copy; opening k of each, and run k, are of one round.

    `second` is a process that opened the copy while another had it open. Sizes in bytes, `built_s` the seconds in which
    the child process made the copy and tested it.
    """

    component_bytes: int
    copy_bytes: int
    built_s: float
    exported: tuple[Opening, ...]
    compiled: tuple[Opening, ...]
    exported_cold: Opening
    compiled_cold: Opening
    second: Opening
    exported_run_s: tuple[float, ...]
    compiled_run_s: tuple[float, ...]

    @property
    def opening(self) -> Comparison:
        """Compiled over exported, within each round."""
        return compare([one.open_s for one in self.compiled], [one.open_s for one in self.exported], operator.truediv)

    @property
    def ready(self) -> Comparison:
        """The same, up to the end of the warm-up, which computes as much either way."""
        compiled, exported = ([one.open_s + one.warm_up_s for one in each] for each in (self.compiled, self.exported))
        return compare(compiled, exported, operator.truediv)

    @property
    def running(self) -> Comparison:
        """Run time, compiled over exported, within each round."""
        return compare(self.compiled_run_s, self.exported_run_s, operator.truediv)


def measure_copies(component: Path | None, rounds: Rounds, threads: int | None, say: Callable[[str], None]) -> Copies:
    """Compile a component and measure it; without one, SD 1.5's U-Net of random weights is written first.

    Everything lies in a temporary folder, some 8 GB at SD 1.5's size.

    Raises:
        BenchmarkError: a process could not open or run it, or the copy gives other bytes than the exported model.
        CompilerError: there is no copy.
    """
    with tempfile.TemporaryDirectory(prefix="lw") as path, ExitStack() as stack:
        folder = _folder(component, Path(path), say)
        say("compiling it")
        settings = CompilerSettings(folder=Path(path) / "compiled", min_free_bytes=0, min_weight_bytes=0)
        copy = CompiledCopies(settings).build(folder, SessionSettings(threads=threads, provider="cpu"))
        record = verify(copy)
        bench = _Bench(folder, copy, threads)
        exported, compiled = [], []
        for number in range(rounds.openings):
            say(f"opening, round {number + 1} of {rounds.openings}")
            exported.append(bench.open_warm(None))
            compiled.append(bench.open_warm(copy))
        say("opening from the disk")
        cold = [bench.open_cold(path_or_none) for path_or_none in (None, copy)]
        say("opening a second replica")
        stack.enter_context(bench.process(copy))
        second = stack.enter_context(bench.process(copy))
        plain = stack.enter_context(bench.process(None))
        say("running")
        exported_s, compiled_s = _runs(plain, second, rounds.runs)
        return Copies(
            component_bytes=sum(file.size for file in folder.manifest.files.values()),
            copy_bytes=record.bytes_on_disk,
            built_s=record.seconds,
            exported=tuple(exported),
            compiled=tuple(compiled),
            exported_cold=cold[0],
            compiled_cold=cold[1],
            second=second.opening,
            exported_run_s=exported_s,
            compiled_run_s=compiled_s,
        )


class _Bench:
    """Opens a component or its copy, in a process of its own each time."""

    def __init__(self, folder: ComponentFolder, copy: Path, threads: int | None) -> None:
        self._folder = folder
        self._copy = copy
        self._threads = threads

    @contextmanager
    def process(self, copy: Path | None) -> Iterator[OpenedProcess]:
        with OpenedProcess(self._folder.path, copy, self._threads) as opened:
            yield opened

    def open_warm(self, copy: Path | None) -> Opening:
        for file in self._files(copy):
            _read_through(file)
        with self.process(copy) as opened:
            return opened.opening

    def open_cold(self, copy: Path | None) -> Opening:
        for file in self._files(copy):
            _drop(file)
        with self.process(copy) as opened:
            return opened.opening

    def _files(self, copy: Path | None) -> list[Path]:
        folder = self._folder.path if copy is None else copy
        return [file for file in folder.rglob("*") if file.is_file()]


def _folder(component: Path | None, path: Path, say: Callable[[str], None]) -> ComponentFolder:
    if component is not None:
        return ComponentFolder.open(component.expanduser().absolute())
    say("writing a U-Net of SD 1.5's size")
    target = path / "denoiser"
    target.mkdir()
    return write_whole_unet(target)


def _runs(plain: OpenedProcess, compiled: OpenedProcess, rounds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    seconds: tuple[list[float], list[float]] = ([], [])
    # the first run of a shape allocates
    for number in range(rounds + 1):
        runs = plain.run(), compiled.run()
        if runs[0].outputs != runs[1].outputs:
            raise BenchmarkError("the compiled copy gives other bytes than the exported model")
        if number:
            for kept, run in zip(seconds, runs, strict=True):
                kept.append(run.seconds)
    return tuple(seconds[0]), tuple(seconds[1])


def _read_through(file: Path) -> None:
    """Have a file in the page cache."""
    buffer = bytearray(_READ_BYTES)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _drop(file: Path) -> None:
    """Have none of a file in the page cache; what is not on the disk yet cannot be dropped."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

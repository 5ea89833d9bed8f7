"""`python -m compiler.build COMPONENT INTO SETTINGS`: the child process that makes one copy, and tests it.

It takes the memory of the plain model and gives way to whoever serves on the node. It ends with its parent, whose end
closes its stdin. What goes wrong is one sentence on stderr and exit status 1.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.errors import CompilerError
from compiler.record import CopyRecord, write_record
from components.contract import Contract
from components.errors import ComponentError
from components.folder import ComponentFolder
from runtime.compiled import CompiledFolder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds, zero_feeds
from runtime.golden import golden_inputs, require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

_NICENESS = 10


def build(folder: ComponentFolder, settings: SessionSettings, into: Path) -> CopyRecord:
    """Compile a component into an empty folder, and keep it only if it gives what the plain model gives.

    The copy must pass the component's golden cases, and on their inputs and on noise give the same bytes as the plain
    model: which of the two a replica opened must not show in a picture.

    Raises:
        CompilerError: it does not, or there is no copy.
        RuntimeFault: the plain model cannot be opened or run, or the copy not be written, opened or run.
        OSError: the disk cannot be written.
    """
    started = time.perf_counter()
    plain = Session.compile(folder, settings, into)
    expected = [plain.run(feeds) for feeds in _trials(plain, folder)]
    # one at a time in memory
    del plain
    compiled = Session.open(CompiledFolder(folder.path, folder.manifest, into), settings)
    if folder.manifest.golden:
        require_golden(compiled, folder)
    for feeds, outputs in zip(_trials(compiled, folder), expected, strict=True):
        if not _equal(compiled.run(feeds), outputs):
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise CompilerError(
                f"{compiled.contract.kind}: the copy gives other bytes than the plain model on {shapes}"
            )
    return write_record(into, folder, time.perf_counter() - started)


def _trials(session: Session, folder: ComponentFolder) -> Iterator[Feeds]:
    return chain(golden_inputs(session, folder), _noise(session.contract))


def _noise(contract: Contract) -> Iterator[Feeds]:
    """Noise for one row and for two, where numbers may be anything; tokens are zero, as not every number is one."""
    rng = np.random.default_rng(0)
    for rows in (1, 2):
        yield {name: _rows_of(array, rows, rng) for name, array in zero_feeds(contract).items()}


def _rows_of(zeros: npt.NDArray[Any], rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = (rows, *zeros.shape[1:])
    if not np.issubdtype(zeros.dtype, np.floating):
        return np.zeros(shape, zeros.dtype)
    return rng.standard_normal(shape, np.float32).astype(zeros.dtype)


def _equal(found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]) -> bool:
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


def _end_with_the_parent() -> None:
    # not by sys.stdin, whose lock this thread would hold when the interpreter ends
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Build what the command line says."""
    component, into, settings = sys.argv[1:]
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        folder = ComponentFolder.open(Path(component))
        build(folder, SessionSettings.model_validate_json(settings), Path(into))
    except (CompilerError, ComponentError, RuntimeFault) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"the copy cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()

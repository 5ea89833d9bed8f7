"""Golden cases: a component's inputs with torch's outputs, against which any copy of it is tested."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.folder import ComponentFolder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds
from runtime.session import Session


class GoldenError(NamedTuple):
    """How far one case was off: the largest absolute error of all outputs, NaN where one is not finite."""

    file: str
    max_absolute_error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the error is within the case's tolerance; NaN is not."""
        return self.max_absolute_error <= self.tolerance


def check_golden(session: Session, folder: ComponentFolder) -> list[GoldenError]:
    """Run the session on every golden case of the folder and return the errors, in the manifest's order.

    Raises:
        RuntimeFault: a case cannot be read, lacks an array that cannot be left out, or has an output of another shape
            than the session gives.
    """
    return [
        GoldenError(case.file, _error(session, folder.path / case.file), case.tolerance)
        for case in folder.manifest.golden
    ]


def golden_inputs(session: Session, folder: ComponentFolder) -> Iterator[Feeds]:
    """What the golden cases of the folder feed, in the manifest's order.

    Raises:
        RuntimeFault: a case cannot be read or lacks an array.
    """
    for case in folder.manifest.golden:
        yield _inputs(_read(folder.path / case.file, session), session)


def require_golden(session: Session, folder: ComponentFolder) -> None:
    """Run the session on every golden case and refuse it if one is over its tolerance.

    Raises:
        RuntimeFault: as `check_golden`, or the folder has no case, or an error is over its tolerance.
    """
    errors = check_golden(session, folder)
    if not errors:
        raise RuntimeFault(f"{session.contract.kind}: no golden case to test it by")
    if beyond := [error for error in errors if not error.within]:
        found = "; ".join(f"{each.file} is off by {each.max_absolute_error:g} of {each.tolerance:g}" for each in beyond)
        raise RuntimeFault(f"{session.contract.kind}: golden cases are over their tolerance: {found}")


def _error(session: Session, file: Path) -> float:
    arrays = _read(file, session)
    outputs = session.run(_inputs(arrays, session))
    errors = []
    for name, output in outputs.items():
        expected = arrays[f"output.{name}"]
        if expected.shape != output.shape:
            raise RuntimeFault(
                f"{file.name}: output {name} has shape {list(expected.shape)}, the session gives {list(output.shape)}"
            )
        errors.append(np.max(np.abs(output.astype(np.float64) - expected)))
    # np.max, because Python's would drop a NaN that is not the first
    return float(np.max(errors))


def _inputs(arrays: Feeds, session: Session) -> Feeds:
    names = (spec.name for spec in session.contract.inputs)
    return {name: arrays[f"input.{name}"] for name in names if f"input.{name}" in arrays}


def _read(file: Path, session: Session) -> dict[str, npt.NDArray[Any]]:
    contract = session.contract
    needed = [f"input.{name}" for name in sorted(contract.required_inputs)]
    needed += [f"output.{spec.name}" for spec in contract.outputs]
    optional = [f"input.{spec.name}" for spec in contract.inputs if spec.optional]
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (*needed, *(name for name in optional if name in arrays))}
    except KeyError as error:
        raise RuntimeFault(f"{file.name}: lacks {error.args[0]}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RuntimeFault(f"{file.name}: cannot be read as golden arrays ({type(error).__name__})") from None

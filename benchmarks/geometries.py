"""At which denoisers the work outside `session.run` is measured."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bars import OUTSIDE_SHARE, OUTSIDE_SHARE_SD15
from benchmarks.outer_layers import write_outer_layers
from benchmarks.outside import Geometry
from benchmarks.task import PROMPT, SEED, Task
from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import ImageRequest
from pipeline.bundle import open_bundle
from pipeline.request import RequestFields, RequestRules, check_request

_SIDE = 256
# a run of the outer layers takes some tenths of a second, one of the whole network seconds
_STEPS_OF_LAYERS, _STEPS_OF_WHOLE = 10, 4


@contextmanager
def geometries(task: Task) -> Iterator[tuple[Geometry, ...]]:
    """The task's own, and the outer layers of SD 1.5's, whose folder is gone afterwards."""
    own = Geometry(
        task.bundle.name, task.folders[Kind.DENOISER], task.request, samples={1: 15, 4: 5}, limit=OUTSIDE_SHARE
    )
    with tempfile.TemporaryDirectory() as path:
        folder = write_outer_layers(Path(path))
        request = _request(folder, _STEPS_OF_LAYERS)
        yield own, Geometry("SD 1.5 at most", folder, request, samples={1: 5, 4: 2}, limit=OUTSIDE_SHARE_SD15)


def whole_network(bundle: Path) -> Geometry:
    """SD 1.5's own, of a bundle's folder.

    Raises:
        ComponentError: there is no whole denoiser in it.
        RequestError: it draws no pictures of 256x256.
    """
    folder = open_bundle(bundle.expanduser().absolute(), (Kind.DENOISER,))[Kind.DENOISER]
    request = _request(folder, _STEPS_OF_WHOLE)
    return Geometry("SD 1.5", folder, request, samples={1: 1, 4: 1}, limit=OUTSIDE_SHARE_SD15)


def _request(folder: ComponentFolder, steps: int) -> ImageRequest:
    fields = RequestFields(prompt=PROMPT, seed=SEED, steps=steps, width=_SIDE, height=_SIDE)
    return check_request(fields, folder.manifest.contract, RequestRules())

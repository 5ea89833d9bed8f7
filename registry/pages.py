"""What a version's pages in MLflow show: contract, parity, files, where it came from, golden pictures."""

import re
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from components.folder import ComponentFolder
from components.manifest import Manifest
from components.messages import Pixels
from components.pictures import contact_sheet, to_pictures
from registry.fields import contract_fields

if TYPE_CHECKING:
    from mlflow import MlflowClient

PICTURES_FOLDER = "pictures"
GOLDEN_PICTURES = "golden.png"
MAX_DESCRIPTION_CHARACTERS = 5000  # of MLflow's databases

_MAX_PARAMS = 100  # of one request to MLflow
_MAX_PARAM_CHARACTERS = 500
_MAX_PICTURES, _MAX_SIDE = 16, 1024
_STEERS_MARKDOWN = re.compile(r"([\\`*{}\[\]<>|#!])")


def write_run(client: "MlflowClient", run: str, folder: ComponentFolder) -> str:
    """Show a component in the pages of the run that holds it, and return the text for its version's page."""
    from mlflow.entities import Metric, Param, RunTag

    text = description(folder, run, _log_pictures(client, run, folder))
    now = int(time.time() * 1000)
    params = [Param(key, value[:_MAX_PARAM_CHARACTERS]) for key, value in _params(folder.manifest).items()]
    metrics = [Metric(key, value, timestamp=now, step=0) for key, value in _metrics(folder).items()]
    tags = [RunTag("mlflow.note.content", text), RunTag("sha256", folder.digest)]
    client.log_batch(run, metrics=metrics, params=params[:_MAX_PARAMS], tags=tags)
    return text


def description(folder: ComponentFolder, run: str, pictured: bool) -> str:
    """A component in Markdown, at most `MAX_DESCRIPTION_CHARACTERS` long; `pictured` shows the run's golden picture."""
    manifest = folder.manifest
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in manifest.parity.shapes.items())
    parts = [
        f"**{manifest.contract.kind}** from {_plain(_origin(manifest))}",
        f"Exported graph against torch: off by {manifest.parity.max_absolute_error:.3g} at most"
        + (f", at {_plain(shapes)}." if shapes else "."),
        *([picture(run, f"{PICTURES_FOLDER}/{GOLDEN_PICTURES}", "golden pictures")] if pictured else []),
        _table("contract", "", contract_fields(manifest.contract).items()),
        _table("file", "bytes", ((name, f"{record.size:,}") for name, record in manifest.files.items())),
    ]
    return _cut("\n\n".join(parts))


def picture(run: str, path: str, what: str) -> str:
    """A run's picture in Markdown, by an address that MLflow's pages have below them."""
    return f"![{what}](get-artifact?path={quote(path, safe='')}&run_uuid={run})"


def golden_pictures(folder: ComponentFolder) -> list[Pixels]:
    """The golden outputs that are pictures, at most sixteen; none where the files are not readable as such."""
    return list(_golden_pictures(folder))[:_MAX_PICTURES]


def _golden_pictures(folder: ComponentFolder) -> Iterator[Pixels]:
    for case in folder.manifest.golden:
        try:
            with np.load(folder.path / case.file, allow_pickle=False) as arrays:
                pixels = arrays["output.pixels"]
        except (KeyError, OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile):
            continue  # the gate says what is wrong with it; to publish, it need not be right
        if pixels.ndim == 4 and pixels.shape[1] == 3 and 0 < max(pixels.shape[2:]) <= _MAX_SIDE:
            yield from to_pictures(pixels)


def _log_pictures(client: "MlflowClient", run: str, folder: ComponentFolder) -> bool:
    pictures = golden_pictures(folder)
    if not pictures:
        return False
    with tempfile.TemporaryDirectory(prefix="latentworks-pages-") as place:
        file = Path(place) / GOLDEN_PICTURES
        contact_sheet([pictures]).save(file)
        client.log_artifact(run, str(file), PICTURES_FOLDER)
    return True


def _params(manifest: Manifest) -> dict[str, str]:
    origin = {"origin.source": manifest.origin.source, "weights": manifest.weights}
    if manifest.origin.licence is not None:
        origin["origin.licence"] = manifest.origin.licence
    if manifest.origin.training_run is not None:
        origin["origin.training_run"] = manifest.origin.training_run
    exporter = {f"exporter.{_key(package)}": version for package, version in manifest.origin.exporter.items()}
    contract = {f"contract.{_key(key)}": value for key, value in contract_fields(manifest.contract).items()}
    return {key: value for key, value in (origin | exporter | contract).items() if value}


def _metrics(folder: ComponentFolder) -> dict[str, float]:
    manifest = folder.manifest
    return {
        "parity.max_absolute_error": manifest.parity.max_absolute_error,
        "bytes": float(sum(record.size for record in manifest.files.values())),
        "golden_cases": float(len(manifest.golden)),
    }


def _origin(manifest: Manifest) -> str:
    origin = manifest.origin
    exporter = ", ".join(f"{package} {version}" for package, version in origin.exporter.items())
    licence = "" if origin.licence is None else f"; licence: {origin.licence}"
    run = "" if origin.training_run is None else f", run {origin.training_run}"
    return f"{origin.source}{run}{licence}" + (f"; exported with {exporter}" if exporter else "")


def _table(left: str, right: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {_plain(key)} | {_plain(value)} |" for key, value in rows]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])


def _plain(text: str) -> str:
    """As it reads, whatever it holds: anyone may have written it."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return _STEERS_MARKDOWN.sub(r"\\\1", printable)


def _key(text: str) -> str:
    """With the characters that MLflow takes in a name."""
    return re.sub(r"[^\w./ -]", "_", text)[:200]


def _cut(text: str) -> str:
    if len(text) <= MAX_DESCRIPTION_CHARACTERS:
        return text
    # by whole lines, so that no row of a table breaks off
    return text[: text.rfind("\n", 0, MAX_DESCRIPTION_CHARACTERS - 2)] + "\n…"

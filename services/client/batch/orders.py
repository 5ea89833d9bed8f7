"""The requests of a file: JSON lines or CSV, all checked before the first is sent."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from services.client.errors import InputError
from services.client.options import BoxSettings, EditOptions, EditSettings, Settings

_LONGEST_NAME = 64


class OrdersError(InputError):
    """A file of requests cannot be read; the message names the line and the field."""


@with_config(ConfigDict(extra="forbid"))
class _Line(Settings, BoxSettings, EditSettings, total=False):
    prompt: str
    image: str
    mask: str
    depth: str


_LINE = TypeAdapter(_Line)


@dataclass(frozen=True, slots=True)
class Order:
    """One request of a file; `key` is the same for what asks for the same, wherever it stands and whenever.

    Without a picture it is a generation, with one an edit, or a variation where there is no prompt.
    """

    line: int
    key: str
    prompt: str | None
    options: EditOptions
    image: Path | None = None
    mask: Path | None = None
    depth: Path | None = None

    @property
    def pictures(self) -> int:
        """How many it asks for."""
        return self.options.get("n", 1)


def read_orders(path: Path) -> list[Order]:
    """Read a file: CSV where its name ends so, with the fields' names in its first line; else JSON lines.

    In CSV an empty cell is a field that is not given, and `components.vae_decoder` a column. Pictures are named from
    the file's folder on. What stands there twice is wanted twice.

    Raises:
        OrdersError: the file, a line or a picture cannot be read, or there is no line.
    """
    lines = _csv(path) if path.suffix.lower() == ".csv" else _json_lines(path)
    seen: Counter[str] = Counter()
    orders = []
    for number, found, strict in lines:
        order = _order(number, found, strict, path.parent, seen)
        orders.append(order)
    if not orders:
        raise OrdersError(f"{path}: holds no request")
    return orders


def _order(number: int, found: Any, strict: bool, folder: Path, seen: Counter[str]) -> Order:
    line = _checked(number, found, strict)
    prompt, image = line.pop("prompt", None), line.pop("image", None)
    beside = {"mask": line.pop("mask", None), "depth": line.pop("depth", None)}
    if image is None and (any(beside.values()) or "strength" in line):
        raise OrdersError(f"line {number}: image: is required where there is a mask, depth or strength")
    if prompt is None and (image is None or any(beside.values())):
        raise OrdersError(f"line {number}: prompt: is required but for variations of a picture")
    files = {name: folder / file for name, file in {"image": image, **beside}.items() if file is not None}
    digests = {name: _digest(number, name, file) for name, file in files.items()}
    options = cast(EditOptions, line)
    same = hashlib.sha256(json.dumps([prompt, options, digests], sort_keys=True).encode()).hexdigest()
    key = same if not seen[same] else hashlib.sha256(f"{same} {seen[same]}".encode()).hexdigest()
    seen[same] += 1
    return Order(number, key, prompt, options, files.get("image"), files.get("mask"), files.get("depth"))


def _checked(number: int, found: Any, strict: bool) -> _Line:
    try:
        return _LINE.validate_python(found, strict=strict)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:_LONGEST_NAME]
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(_Line.__annotations__))
            raise OrdersError(f"line {number}: {field!r}: no such field; there are {names}") from None
        where = f"line {number}: {field}" if field else f"line {number}"
        raise OrdersError(f"{where}: {first['msg']}") from None


def _digest(number: int, name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise OrdersError(f"line {number}: {name}: cannot be read: {error.strerror}") from None


def _json_lines(path: Path) -> Iterator[tuple[int, Any, bool]]:
    # not splitlines, which also ends lines where JSON's texts may go on
    for number, text in enumerate(_text(path).split("\n"), 1):
        if text.strip():
            try:
                yield number, json.loads(text), True
            except (ValueError, RecursionError):
                raise OrdersError(f"line {number}: is no JSON") from None


def _csv(path: Path) -> Iterator[tuple[int, Any, bool]]:
    reader = csv.DictReader(_text(path).splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise OrdersError(f"line {reader.line_num}: has not as many cells as the first line")
            yield reader.line_num, _members({name: cell for name, cell in row.items() if cell != ""}), False
    except csv.Error as error:
        raise OrdersError(f"line {reader.line_num}: is no CSV: {error}") from None


def _members(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in row.items():
        outer, dot, inner = name.partition(".")
        if dot:
            found.setdefault(outer, {})[inner] = cell
        else:
            found[name] = cell
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OrdersError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise OrdersError(f"{path}: is not UTF-8") from None

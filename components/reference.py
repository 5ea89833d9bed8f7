"""How a component is named: a registered model, one exact version of it, or an alias that points at one."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from components.contract import Kind
from components.errors import ComponentError
from components.manifest import Sha256
from components.record import Record

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\.[a-z_]+(\.[a-z0-9][a-z0-9_-]*)?")
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_SELECTOR = re.compile(r"(?P<name>[^@/]+)(@(?P<alias>[^@/]+)|/(?P<version>[1-9][0-9]{0,8}))")
DEFAULT_ALIAS = "production"
MAX_VERSION = 999_999_999


class ComponentRef(Record):
    """One exact version of a registered component: a pin."""

    name: str
    version: int = Field(ge=1, le=MAX_VERSION)
    sha256: Sha256 = Field(description="the digest of its component.json")

    @field_validator("name")
    @classmethod
    def _is_a_component(cls, name: str) -> str:
        kind_of(name)
        return name

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Selector(Record):
    """What a person writes: `emoji.vae_decoder@production`, or `emoji.vae_decoder/2`."""

    name: str
    alias: str | None = None
    version: int | None = Field(None, ge=1, le=MAX_VERSION)

    @model_validator(mode="after")
    def _points_at_one(self) -> Self:
        if (self.alias is None) == (self.version is None):
            raise ValueError("a selector has either an alias or a version")
        return self

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.alias is None else f"{self.name}@{self.alias}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a selector.

        Raises:
            ComponentError: it is not of the form NAME@ALIAS or NAME/VERSION, or NAME is no component's name.
        """
        match = _SELECTOR.fullmatch(text)
        if match is None or (match["alias"] is not None and not _ALIAS.fullmatch(match["alias"])):
            raise ComponentError(f"{text!r}: must be NAME@ALIAS or NAME/VERSION")
        kind_of(match["name"])
        version = match["version"]
        return cls(name=match["name"], alias=match["alias"], version=None if version is None else int(version))


def registered_name(bundle: str, kind: Kind, name: str | None = None) -> str:
    """The registered model's name: `<bundle>.<kind>`, or `<bundle>.<kind>.<name>` where a bundle has several.

    Raises:
        ComponentError: a part has other characters than small letters, digits, `_` and `-`.
    """
    registered = f"{bundle}.{kind}" if name is None else f"{bundle}.{kind}.{name}"
    kind_of(registered)
    return registered


def is_component(name: str) -> bool:
    """Whether a registered model's name is a component's; MLflow may hold other models beside them."""
    try:
        kind_of(name)
    except ComponentError:
        return False
    return True


def kind_of(name: str) -> Kind:
    """The kind in a registered model's name.

    Raises:
        ComponentError: the name is not `<bundle>.<kind>` or `<bundle>.<kind>.<name>`.
    """
    kinds = ", ".join(Kind)
    if not _NAME.fullmatch(name) or (kind := name.split(".")[1]) not in set(Kind):
        raise ComponentError(f"{name!r}: must be <bundle>.<kind> or <bundle>.<kind>.<name>, with kind one of {kinds}")
    return Kind(kind)

"""What can go wrong between us and the registry."""

from collections.abc import Iterable
from typing import Self

from components.reference import ComponentRef, kind_of


class RegistryError(Exception):
    """The registry refuses, cannot be reached, or holds something that cannot be used; the message is one sentence."""


class RegistryAwayError(RegistryError):
    """The registry does not answer just now; what is asked may well be right."""


class NoSuchVersionError(RegistryError):
    """There is no version as somebody asks for one, or none that may serve; the message is for anybody to read.

    It is made below of a component's name, a number, aliases and words of ours, so that it can hold no path and no
    address. Every maker raises ComponentError where the name is no component's.
    """

    @classmethod
    def absent(cls, name: str, version: int | None = None) -> Self:
        """Say that a name, or a version of it, is not there."""
        return cls(f"{_named(name, version)} is not in the registry")

    @classmethod
    def without_alias(cls, name: str, alias: str, known: Iterable[str]) -> Self:
        """Say that a name has no such alias, and which it has; MLflow takes letters, digits, `_` and `-` in one."""
        return cls(f"{_named(name)} has no alias {alias!r}; it has {', '.join(sorted(known)) or 'none'}")

    @classmethod
    def foreign(cls, name: str, version: int, missing: str | None) -> Self:
        """Say that a version is none of ours, by a tag of ours that it lacks, or that is not as we write it."""
        reason = (
            "its tags sha256 and contract are not those of a component"
            if missing is None
            else f"its tag {missing} is missing"
        )
        return cls(f"{_named(name, version)} was not published by Latentworks: {reason}")

    @classmethod
    def untried(cls, ref: ComponentRef) -> Self:
        """Say that the gate has not let a version pass."""
        return cls(f"{_named(ref.name, ref.version)} has not passed the gate")


def _named(name: str, version: int | None = None) -> str:
    kind_of(name)
    return name if version is None else f"{name}/{version}"

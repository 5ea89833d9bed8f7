"""What a deployer may set of the keys, and how much one key may ask for."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from registry.settings import Folder


class KeyLimits(BaseModel):
    """How much one key may ask for in one ingress replica; None is no limit, of `burst` a minute's pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pictures_per_minute: float | None = Field(
        None, gt=0, le=10**6, description="of a key without a limit of its own; over it comes 429; unset: no limit"
    )
    burst: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="how many of them may come at once; more in one request is 403; unset: a minute's, at least 1",
    )
    concurrent_pictures: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="pictures of a key under way; over it comes 429, more in one request is 403; unset: no limit",
    )

    def require_rate(self) -> None:
        """Raise ValueError for a burst of no rate, which would do nothing."""
        if self.burst is not None and self.pictures_per_minute is None:
            raise ValueError("burst: does nothing without pictures_per_minute")

    def changed(self, own: Mapping[str, str | None]) -> "KeyLimits":
        """These limits with those of a key's `own` in their place; a rate brings its own burst, or a minute's.

        Raises:
            ValueError: one has a value outside its limits, or does nothing.
        """
        merged: dict[str, Any] = self.model_dump()
        if own.keys() & {"pictures_per_minute", "burst"}:
            merged |= {"pictures_per_minute": None, "burst": None}
        limits = KeyLimits.model_validate(merged | dict(own))
        limits.require_rate()
        return limits


class KeySettings(KeyLimits):
    """API keys, see docs/keys.md; without `file` and `records` none is asked for, which loopback alone allows."""

    file: Folder | None = Field(
        None,
        description="a file of keys, one a line, on every node that an ingress runs on; read again when it changes",
    )
    records: SecretStr | None = Field(
        None, description="the same lines, with `;` or a new line between them, where there is no file"
    )

    @property
    def limits(self) -> KeyLimits:
        """Those of a key that has none of its own."""
        return KeyLimits(**{name: getattr(self, name) for name in KeyLimits.model_fields})

    def require_sense(self) -> None:
        """Raise ValueError for settings that contradict each other.

        It is no validator of the model: an error of one tells all that was given, keys' digests too.
        """
        if self.file is not None and self.records is not None:
            raise ValueError("keys.file and keys.records: give only one of them")
        try:
            self.require_rate()
        except ValueError as error:
            raise ValueError(f"keys.{error}") from None

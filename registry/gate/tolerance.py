"""How close to the version before it a new one must come under an alias: PSNR in dB, a tag of the registered model."""

import math

from components.reference import Selector, kind_of
from registry.errors import RegistryError
from registry.gate.examine import GateSettings
from registry.registry import Registry
from registry.tags import model_tag, set_model_tag

MAX_DB = 120.0


def tolerance_of(registry: Registry, name: str, alias: str, settings: GateSettings) -> float | None:
    """The least PSNR in dB that an alias asks for: its own, or its kind's in the settings; None for any.

    Raises:
        ComponentError: the name or the alias is not of its form.
        RegistryError: nothing is published under that name, the registry cannot be asked, or the tag is no such number.
    """
    Selector.parse(f"{name}@{alias}")
    stated = model_tag(registry, name, _key(alias))
    if stated is None:
        return settings.tolerances.get(kind_of(name))
    try:
        return _checked(float(stated), alias)
    except ValueError:
        raise RegistryError(f"{name}: its tag {_key(alias)}={stated[:60]!r} is no number of decibels") from None


def set_tolerance(registry: Registry, name: str, alias: str, decibels: float | None) -> None:
    """State the least PSNR that an alias asks for, 0..120 dB; None goes back to the settings' own.

    Raises:
        ComponentError: the name or the alias is not of its form.
        RegistryError: nothing is published under that name, the registry cannot be asked, or the number is outside.
    """
    Selector.parse(f"{name}@{alias}")
    set_model_tag(registry, name, _key(alias), None if decibels is None else f"{_checked(decibels, alias):g}")


def _key(alias: str) -> str:
    return f"tolerance.{alias}"


def _checked(decibels: float, alias: str) -> float:
    if not 0 <= decibels <= MAX_DB or math.isnan(decibels):
        raise RegistryError(f"{_key(alias)}={decibels:g}: must be a number of decibels between 0 and {MAX_DB:g}")
    return decibels

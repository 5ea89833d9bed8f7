import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.errors import RegistryError
from registry.settings import RegistrySettings


def test_without_variables_everything_is_in_a_folder_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = RegistrySettings.from_environment()
    assert settings.home == tmp_path / ".latentworks"
    assert {settings.cache.parent, settings.artifacts.parent, settings.locks.parent} == {settings.home}
    assert settings.tracking_uri is None
    assert not settings.served


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENTWORKS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LATENTWORKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LATENTWORKS_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("LATENTWORKS_REGISTRY_TIMEOUT_S", "3")
    monkeypatch.setenv("LATENTWORKS_REGISTRY_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    settings = RegistrySettings.from_environment()
    assert (settings.home, settings.cache, settings.artifacts) == (
        tmp_path / "home",
        tmp_path / "cache",
        tmp_path / "artifacts",
    )
    assert (settings.timeout_s, settings.retries, settings.tracking_uri) == (3, 0, "http://mlflow:5000")
    assert settings.served


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert RegistrySettings.from_environment().tracking_uri is None


def test_a_relative_home_stays_where_it_was_when_the_working_directory_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTWORKS_HOME", "here")
    settings = RegistrySettings.from_environment()
    os.chdir("/")
    assert settings.home == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LATENTWORKS_REGISTRY_TIMEOUT_S", "0"),
        ("LATENTWORKS_REGISTRY_TIMEOUT_S", "soon"),
        ("LATENTWORKS_REGISTRY_RETRIES", "-1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RegistryError, match=f"{name}='{value}'"):
        RegistrySettings.from_environment()


def test_only_our_variables_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CACHE_FOLDER", "ARTIFACTS_FOLDER", "TRACKING_URI", "TIMEOUT_S", "RETRIES"):
        monkeypatch.setenv(name, "7")
    assert RegistrySettings.from_environment() == RegistrySettings()
    assert RegistrySettings.from_environment({"LATENTWORKS_HOME": str(tmp_path)}).home == tmp_path


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="hom"):
        RegistrySettings.model_validate({"hom": "/tmp"})

from typing import cast

import onnx
import onnxruntime as ort
import pytest

from runtime import providers
from runtime.errors import RuntimeFault
from runtime.providers import attached_provider, provider_here, wanted_providers
from runtime.settings import Provider, SessionSettings

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class Attached:
    """Stands for a session, of which only the providers that attached are asked."""

    def __init__(self, *names: str) -> None:
        self._names = list(names)

    def get_providers(self) -> list[str]:
        return self._names


def attached(settings: SessionSettings, *names: str) -> Provider:
    return attached_provider(cast(ort.InferenceSession, Attached(*names)), settings)


@pytest.mark.parametrize(
    ("provider", "built_in", "wanted"),
    [
        ("cpu", ALL, ["CPUExecutionProvider"]),
        ("cuda", ALL, ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("tensorrt", ALL, ALL),
        ("auto", ALL, ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("auto", ALL[2:], ["CPUExecutionProvider"]),
    ],
)
def test_what_is_asked_for_comes_first(
    monkeypatch: pytest.MonkeyPatch, provider: str, built_in: list[str], wanted: list[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: built_in)
    assert wanted_providers(SessionSettings.model_validate({"provider": provider})) == wanted


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_the_wheel_lacks_is_refused(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeFault, match=f"provider {provider}: the installed ONNX Runtime .* it has cpu$"):
        wanted_providers(SessionSettings.model_validate({"provider": provider}))


def test_auto_reports_what_attached() -> None:
    assert attached(SessionSettings(), "CUDAExecutionProvider", "CPUExecutionProvider") == "cuda"
    assert attached(SessionSettings(), "CPUExecutionProvider") == "cpu"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (SessionSettings(provider="cuda"), ALL[2:]),
        (SessionSettings(provider="tensorrt"), ALL[1:]),
        (SessionSettings(provider="tensorrt"), ALL[2:]),
    ],
)
def test_no_other_provider_steps_in_silently(settings: SessionSettings, names: list[str]) -> None:
    with pytest.raises(RuntimeFault, match=f"provider {settings.provider}: asked for, but it did not attach"):
        attached(settings, *names)
    whole = ALL if settings.provider == "tensorrt" else ALL[1:]
    assert attached(settings, *whole) == settings.provider


def test_the_provider_is_known_before_a_component_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_here(SessionSettings(provider="cpu")) == "cpu"
    assert provider_here(SessionSettings(provider="cuda")) == "cuda"
    # by what attaches, on this machine
    assert provider_here(SessionSettings()) in {"cpu", "cuda"}
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert provider_here(SessionSettings()) == "cpu"


def test_the_trial_by_which_it_is_known_is_a_sound_model() -> None:
    trial = onnx.load_from_string(providers._SMALLEST_MODEL)
    onnx.checker.check_model(trial)
    assert [node.op_type for node in trial.graph.node] == ["Identity"]

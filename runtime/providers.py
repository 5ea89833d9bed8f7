"""Which execution provider runs a session: asked for by name, and never another one in silence.

CUDA and TensorRT are written to ONNX Runtime's documentation and untested: no machine of ours has had a GPU yet.
"""

import onnxruntime as ort

from runtime.errors import RuntimeFault
from runtime.settings import Provider, SessionSettings

_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# The first of each must attach; the others take the nodes that it leaves. "auto" leaves TensorRT out, which builds an
# engine for minutes at the first run of every shape.
_CHAINS: dict[Provider, tuple[Provider, ...]] = {
    "cpu": ("cpu",),
    "cuda": ("cuda", "cpu"),
    "tensorrt": ("tensorrt", "cuda", "cpu"),
}


def wanted_providers(settings: SessionSettings) -> list[str]:
    """ONNX Runtime's names of the providers to open a session with, most wanted first.

    Raises:
        RuntimeFault: the provider asked for is not in the installed ONNX Runtime.
    """
    built_in = ort.get_available_providers()
    if settings.provider == "auto":
        return [_NAMES[provider] for provider in _CHAINS["cuda"] if _NAMES[provider] in built_in]
    if _NAMES[settings.provider] not in built_in:
        known = ", ".join(sorted(provider for provider, name in _NAMES.items() if name in built_in))
        raise RuntimeFault(
            f"provider {settings.provider}: the installed ONNX Runtime is built without it; it has {known}"
        )
    return [_NAMES[provider] for provider in _CHAINS[settings.provider] if _NAMES[provider] in built_in]


def attached_provider(session: ort.InferenceSession, settings: SessionSettings) -> Provider:
    """The provider that took the session.

    Raises:
        RuntimeFault: the provider asked for did not attach, which ONNX Runtime itself only logs.
    """
    first = session.get_providers()[0]
    attached = next(provider for provider, name in _NAMES.items() if name == first)
    if settings.provider not in ("auto", attached):
        raise not_attached(settings.provider)
    return attached


def not_attached(provider: str) -> RuntimeFault:
    """Make the error of a provider that was asked for and that this machine cannot give."""
    return RuntimeFault(
        f"provider {provider}: asked for, but it did not attach; its driver or libraries are missing on this machine"
    )

"""Which execution provider runs a session: asked for by name, and never another one in silence.

CUDA and TensorRT are written to ONNX Runtime's documentation and untested: no machine of ours has had a GPU yet.
"""

from functools import cache

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

SEVERITY_FATAL = 4
CPU_ALONE = (_NAMES["cpu"],)

# A graph that gives its input back, as the bytes of an ONNX model (IR 8, opset 13): the least that a session can be
# opened on, without a package that writes models.
_SMALLEST_MODEL = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


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


def provider_here(settings: SessionSettings) -> Provider:
    """The provider that a session of these settings gets on this machine, known before any component is opened.

    Raises:
        RuntimeFault: as `wanted_providers`.
    """
    if settings.provider != "auto":
        return settings.provider
    return "cpu" if wanted_providers(settings) == list(CPU_ALONE) else _attached_to_a_trial()


@cache
def _attached_to_a_trial() -> Provider:
    # the package with CUDA lists it on machines that have none, and whether it attaches shows only when it is used
    settings = SessionSettings()
    ort.set_default_logger_severity(SEVERITY_FATAL)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    trial = ort.InferenceSession(_SMALLEST_MODEL, options, providers=wanted_providers(settings), enable_fallback=0)
    return attached_provider(trial, settings)

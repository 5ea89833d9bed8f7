"""A component's graph, opened in ONNX Runtime and held to its contract."""

from typing import Any, Self

import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from components.contract import Contract
from components.folder import MAIN_GRAPH, ComponentFolder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds, feed_differences, output_differences, zero_feeds
from runtime.graph_check import graph_differences
from runtime.interrupt import Interrupt
from runtime.providers import attached_provider, not_attached, wanted_providers
from runtime.settings import Provider, SessionSettings, thread_count

_SEVERITY_ERROR = 3
_SEVERITY_FATAL = 4

# ONNX Runtime's exceptions share no base class; a broken model also shows as one of Python's own
ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotFound,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
    MemoryError,
)

# what TensorRT raises on a machine without it, before any model is read
_PROVIDER_ERRORS = (ort_errors.EPFail, RuntimeError)


class Session:
    """One graph of one component, ready to run from any number of threads at once."""

    def __init__(self, session: ort.InferenceSession, contract: Contract, provider: Provider) -> None:
        """Take a session whose graph keeps `contract`; `open` makes one."""
        self._session = session
        self._outputs = [spec.name for spec in contract.outputs]
        self.contract = contract
        self.provider = provider

    @classmethod
    def open(cls, folder: ComponentFolder, settings: SessionSettings, graph: str = MAIN_GRAPH) -> Self:
        """Open a component's graph, hold it to the contract and run it once on zeros, so that it is ready.

        Raises:
            ComponentError: the component has no graph of that name.
            RuntimeFault: the model cannot be read, its provider did not attach, it breaks its contract (every
                difference is named), or the warm-up failed.
        """
        contract = folder.manifest.contract
        # The process's own logger tells only of providers that did not load, with paths of this machine; whether one
        # attached is checked below and said in our words.
        ort.set_default_logger_severity(_SEVERITY_FATAL)
        try:
            opened = ort.InferenceSession(
                str(folder.graph(graph)), _options(settings), providers=wanted_providers(settings), enable_fallback=0
            )
        except ORT_ERRORS as error:
            if settings.provider in ("cuda", "tensorrt") and isinstance(error, _PROVIDER_ERRORS):
                raise not_attached(settings.provider) from None
            raise RuntimeFault(
                f"{contract.kind}: ONNX Runtime cannot load graph {graph!r} ({type(error).__name__}); "
                "the model is damaged, truncated or made for another version"
            ) from None
        provider = attached_provider(opened, settings)
        if differences := graph_differences(opened, contract):
            raise RuntimeFault(f"{contract.kind}: graph {graph!r} breaks its contract: {'; '.join(differences)}")
        session = cls(opened, contract, provider)
        session.warm_up()
        return session

    def warm_up(self) -> None:
        """Run once on zeros of one row, so that the first request pays for no lazy allocation; `open` has done it.

        Raises:
            RuntimeFault: as `run`, or the zeros do not fit into memory, or an output is not of the shape that the
                contract promises.
        """
        feeds = zero_feeds(self.contract)
        if differences := output_differences(feeds, self.run(feeds), self.contract):
            raise RuntimeFault(f"{self.contract.kind}: the graph breaks its contract: {'; '.join(differences)}")

    def run(self, feeds: Feeds, interrupt: Interrupt | None = None) -> dict[str, npt.NDArray[Any]]:
        """Run the graph on `feeds`, arrays by input name, and return new arrays by output name.

        Raises:
            RuntimeFault: an input is missing, unknown or of another dtype or shape than the contract says, ONNX
                Runtime could not run the graph, or `interrupt` broke the run off.
        """
        if differences := feed_differences(feeds, self.contract):
            raise RuntimeFault(f"{self.contract.kind}: {'; '.join(differences)}")
        try:
            arrays = self._session.run(self._outputs, feeds, None if interrupt is None else interrupt.options)
        except ORT_ERRORS as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise RuntimeFault(
                f"{self.contract.kind}: ONNX Runtime could not run {shapes} ({type(error).__name__})"
            ) from None
        return dict(zip(self._outputs, arrays, strict=True))


def _options(settings: SessionSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(settings)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _SEVERITY_ERROR
    # Threads that spin between operators take the cores from the other replicas of the node; on two cores a session
    # alone is faster without, too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options

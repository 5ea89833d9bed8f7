"""A component's graph, opened in ONNX Runtime and held to its contract."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from components.contract import Contract
from components.folder import MAIN_GRAPH, ComponentFolder
from runtime.compiled import COMPILED_GRAPH, CompiledFolder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds, feed_differences, output_differences, zero_feeds
from runtime.graph_check import graph_differences
from runtime.interrupt import Interrupt
from runtime.options import compiled_options, compiling_options, exported_options
from runtime.providers import CPU_ALONE, SEVERITY_FATAL, attached_provider, not_attached, wanted_providers
from runtime.settings import Provider, SessionSettings

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


class _Source(NamedTuple):
    """What ONNX Runtime is to open, and how; `name` is for messages."""

    name: str
    path: Path
    options: ort.SessionOptions
    providers: Sequence[str]


class Session:
    """One graph of one component, ready to run from any number of threads at once."""

    def __init__(
        self, session: ort.InferenceSession, contract: Contract, provider: Provider, lease: object = None
    ) -> None:
        """Take a session whose graph keeps `contract`; `open` makes one. `lease` lives as long as the session."""
        self._session = session
        self._lease = lease
        self._outputs = [spec.name for spec in contract.outputs]
        self.contract = contract
        self.provider = provider

    @classmethod
    def open(cls, folder: ComponentFolder, settings: SessionSettings, graph: str = MAIN_GRAPH) -> Self:
        """Open a component's graph, hold it to the contract and run it once on zeros, so that it is ready.

        The main graph of a `CompiledFolder` is its compiled copy, which runs on the CPU.

        Raises:
            ComponentError: the component has no graph of that name.
            RuntimeFault: the model cannot be read, its provider did not attach, it breaks its contract (every
                difference is named), or the warm-up failed.
        """
        path = folder.graph(graph)
        if isinstance(folder, CompiledFolder) and graph == MAIN_GRAPH:
            copy = folder.copy / COMPILED_GRAPH
            source = _Source("its compiled copy", copy, compiled_options(settings), CPU_ALONE)
        else:
            source = _Source(f"graph {graph!r}", path, exported_options(settings), wanted_providers(settings))
        return cls._open(folder, settings, source)

    @classmethod
    def compile(cls, folder: ComponentFolder, settings: SessionSettings, into: Path) -> Self:
        """Open a component's exported main graph on the CPU, and save it to the folder `into` as optimised for it.

        What is saved is specific to this CPU and this version of ONNX Runtime, see `recipe`; `CompiledFolder` opens it.

        Raises:
            RuntimeFault: as `open`, or the copy cannot be written.
        """
        source = _Source(f"graph {MAIN_GRAPH!r}", folder.graph(), compiling_options(settings, into), CPU_ALONE)
        return cls._open(folder, settings, source)

    @classmethod
    def _open(cls, folder: ComponentFolder, settings: SessionSettings, source: _Source) -> Self:
        contract = folder.manifest.contract
        # The process's own logger tells only of providers that did not load, with paths of this machine; whether one
        # attached is checked below and said in our words.
        ort.set_default_logger_severity(SEVERITY_FATAL)
        try:
            opened = ort.InferenceSession(
                str(source.path), source.options, providers=list(source.providers), enable_fallback=0
            )
        except ORT_ERRORS as error:
            if settings.provider in ("cuda", "tensorrt") and isinstance(error, _PROVIDER_ERRORS):
                raise not_attached(settings.provider) from None
            raise RuntimeFault(
                f"{contract.kind}: ONNX Runtime cannot load {source.name} ({type(error).__name__}); "
                "the model is damaged, truncated or made for another version"
            ) from None
        provider = attached_provider(opened, settings)
        if differences := graph_differences(opened, contract):
            raise RuntimeFault(f"{contract.kind}: {source.name} breaks its contract: {'; '.join(differences)}")
        session = cls(opened, contract, provider, folder.lease if isinstance(folder, CompiledFolder) else None)
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

    def run(
        self, feeds: Feeds, interrupt: Interrupt | None = None, outputs: Collection[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the graph on `feeds`, arrays by input name, and return new arrays by output name: `outputs`, or all.

        Raises:
            RuntimeFault: an input is missing, unknown or of another dtype or shape than the contract says, ONNX
                Runtime could not run the graph, or `interrupt` broke the run off.
        """
        if differences := feed_differences(feeds, self.contract):
            raise RuntimeFault(f"{self.contract.kind}: {'; '.join(differences)}")
        fetched = self._outputs if outputs is None else list(outputs)
        options = ort.RunOptions() if interrupt is None else interrupt.options
        # what the outputs that nobody fetches are made of is left out
        options.only_execute_path_to_fetches = outputs is not None
        try:
            arrays = self._session.run(fetched, feeds, options)
        except ORT_ERRORS as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise RuntimeFault(
                f"{self.contract.kind}: ONNX Runtime could not run {shapes} ({type(error).__name__})"
            ) from None
        return dict(zip(fetched, arrays, strict=True))

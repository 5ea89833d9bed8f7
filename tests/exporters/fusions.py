"""`python -m tests.exporters.fusions CHECKPOINT`: what onnxscript's fusions gain, network by network, in one run."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from components.contract import Kind
from exporters import graph
from exporters.checkpoint import Checkpoint
from exporters.denoiser import denoiser
from exporters.network import Network
from exporters.preview import fit_preview
from exporters.storage import GRAPH_NAME, save
from exporters.text_encoder import text_encoder
from exporters.vae import latent_space
from exporters.vae_decoder import vae_decoder

_RUNS = 30


def session(network: Network, fused: bool) -> ort.InferenceSession:
    graph._FUSED = frozenset(Kind) if fused else frozenset()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        save(graph.export_graph(network), Path(folder))
        return ort.InferenceSession(str(Path(folder) / GRAPH_NAME), options, providers=["CPUExecutionProvider"])


def compare(network: Network) -> str:
    feeds = {name: array.numpy() for name, array in network.arrays({**network.trials.golden[0], "batch": 2}, 0).items()}
    sessions = [session(network, fused) for fused in (False, True)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_RUNS):
        for each, kept in zip(sessions, times, strict=True):
            begun = time.perf_counter()
            each.run(None, feeds)
            kept.append(time.perf_counter() - begun)
    plain, fused = (each.run(None, feeds)[0] for each in sessions)
    before, after = (statistics.median(kept) for kept in times)
    taken_ms = f"{1000 * before:.2f} ms, fused {1000 * after:.2f} ms ({after / before:.2f})"
    return f"{taken_ms}, off by {np.abs(fused - plain).max():.1e}"


def main(path: Path) -> None:
    checkpoint = Checkpoint.open(path)
    vae = checkpoint.vae()
    space = latent_space(vae, "any")
    texts = text_encoder(checkpoint)
    for network in (
        texts,
        denoiser(checkpoint, space, texts.contract.conditioning, fit_preview(vae, space)),
        vae_decoder(vae, space),
    ):
        print(f"{network.contract.kind}: {compare(network)}")  # noqa: T201 - what it is for


if __name__ == "__main__":
    main(Path(sys.argv[1]))

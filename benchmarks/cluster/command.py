"""`python -m benchmarks cluster`: the manifests' Serve config on a cluster of several nodes, all on this machine."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console

from benchmarks.cluster.nodes import local_cluster
from benchmarks.cluster.proofs import proved
from benchmarks.cluster.stage import Stage
from benchmarks.cluster.stores import local_stores
from benchmarks.command_line import Out, result_file
from benchmarks.denoising_tables import new_table
from benchmarks.machine import describe_machine
from benchmarks.tables import machine_line


def cluster(out: Out = None) -> None:
    """Start Ray's head and a worker for each pool, deploy the overlay gpu's config, and try what may happen to it.

    It ends with status 1 where one thing did not hold. Redis and PostgreSQL must be installed.
    """
    console = Console()
    # Ray's sockets have the longest path that the system takes: their folder must be near the root
    with (
        result_file(out) as path,
        tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder,
        console.status("") as status,
    ):
        machine = describe_machine()
        status.update("starting PostgreSQL, a bucket and MLflow")
        with local_stores(Path(folder)) as stores, local_cluster(stores) as nodes:
            found = proved(Stage(nodes), status.update)
        report = {"machine": asdict(machine), "proofs": [asdict(proof) for proof in found]}
        path.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    console.print(machine_line(machine))
    table = new_table("a cluster on one machine", "", "held", "s", "what came of it")
    table.columns[-1].justify = "left"
    for proof in found:
        table.add_row(proof.name, "yes" if proof.held else "NO", f"{proof.seconds:.0f}", proof.said)
    console.print(table)
    console.print(f"Written to {path}", soft_wrap=True)
    if not all(proof.held for proof in found):
        raise typer.Exit(1)

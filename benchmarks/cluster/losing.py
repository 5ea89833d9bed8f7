"""Nodes that die while requests are under way."""

import time
from collections.abc import Sequence

from benchmarks.cluster.load import load_on
from benchmarks.cluster.nodes import node_labels
from benchmarks.cluster.stage import Outcome, Stage
from benchmarks.cluster.variables import HEAD
from benchmarks.cluster.wishes import Wish, wishes_at

_JOBS = 6
_JOB_STEPS = 40
_DONE = "completed"
_ENDS = (_DONE, "failed", "cancelled")


def lost_worker(stage: Stage) -> Outcome:
    """A node with a denoiser and a proxy dies: no picture is lost, and another node of the pool takes its place.

    Requests by other nodes' proxies notice nothing; those by its own are asked again elsewhere by their keys.
    """
    application = stage.application
    denoisers = [each for each in application.replicas() if each.deployment == "denoiser"]
    lost = node_labels(stage.cluster)[denoisers[0].node]["node"]
    pids = {each.pid for each in denoisers}
    before = set(stage.jobs())
    with wishes_at([stage.door(node) for node in (lost, "front", HEAD)]) as wishes, load_on(stage.door()) as load:
        application.wait(lambda: len(load.answered) > 2 and _granted(wishes) > 2)
        stage.cluster.nodes[lost].kill()
        application.wait(lambda: len(application.pids("denoiser") & pids) == 1)
        application.wait(lambda: len(application.pids("denoiser")) == len(pids))
        count = len(load.answered)
        application.wait(lambda: len(load.answered) > count + 2)
    kept, said = _account(stage, wishes, before)
    return Outcome(kept and not load.failed, f"{load}. Through the proxy that died: {said}")


def lost_head(stage: Stage) -> Outcome:
    """The head dies and starts again: jobs go on, pins are the same, and whoever asked through it has a picture."""
    application = stage.application
    pins, before = stage.pins(), set(stage.jobs())
    with load_on(stage.door("front")) as load, wishes_at([stage.door()]) as wishes:
        application.wait(lambda: _granted(wishes) > 2)
        jobs = [_submit(stage, seed) for seed in range(_JOBS)]
        stage.cluster.nodes[HEAD].kill()
        died = time.monotonic()
        known = stage.jobs()
        unfinished = sum(known[job][0] not in _ENDS for job in jobs)
        stage.cluster.start_head()
        application.wait(stage.ready)
        away_s = time.monotonic() - died
    application.wait(lambda: all(stage.jobs()[job][0] in _ENDS for job in jobs))
    ends = [stage.jobs()[job][0] for job in jobs]
    same = pins == stage.pins()
    kept, said = _account(stage, wishes, before.union(jobs))
    about = (
        f"{unfinished} of {_JOBS} jobs were unfinished then, {ends.count(_DONE)} are completed; "
        f"pins: {'the same' if same else 'others'}"
    )
    return Outcome(
        same and unfinished > 0 and ends == _JOBS * [_DONE] and kept and not load.failed,
        f"{away_s:.1f} s without the head's proxy; {about}. Through it: {said}. Through a worker's: {load}",
    )


def _granted(wishes: Sequence[Wish]) -> int:
    return sum(len(wish.granted) for wish in list(wishes))


def _account(stage: Stage, wishes: Sequence[Wish], before: set[str]) -> tuple[bool, str]:
    """Whether every wish came to one picture, drawn once, and what to say of it; `before` are jobs of no wish."""
    jobs = stage.jobs()
    failed = [wish.failed for wish in wishes if wish.failed]
    again = [wish for wish in wishes if wish.asked_again]
    alike = all(len(set(wish.granted)) == 1 for wish in wishes if not wish.failed)
    theirs = {wish.granted[0].job for wish in wishes if wish.granted}
    new = jobs.keys() - before
    once = new == theirs and all(jobs[job] == (_DONE, 1) for job in theirs)
    broke = sum(wish.broke > 0 for wish in again)
    said = (
        f"{len(wishes)} keys, {len(again)} asked again, {broke} of them after their line had broken, "
        f"{f'{len(failed)} failed, the first: {failed[0]}' if failed else 'none failed'}, "
        f"{'each one job that was begun once' if once else f'{len(new)} jobs, begun {_begun(jobs, new)} times'}, "
        f"{'asked for again the same picture' if alike else 'asked for again others'}"
    )
    return bool(not failed and alike and once and broke), said


def _begun(jobs: dict[str, tuple[str, int]], new: set[str]) -> int:
    return sum(jobs[job][1] for job in new)


def _submit(stage: Stage, seed: int) -> str:
    body = {"prompt": "a red apple, 3d style", "steps": _JOB_STEPS, "seed": seed}
    return str(stage.door().post("/v1/jobs", body).json()["id"])

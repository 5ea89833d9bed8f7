"""Whether the paths that are compared do the same."""

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.bare import BareSessions
from benchmarks.in_process import InProcess
from benchmarks.served import request_body
from benchmarks.stopwatch import StageTimes
from benchmarks.task import PROMPT, SEED, Task, asked_fields, read_task
from components.contract import Kind
from pipeline.errors import RequestError
from pipeline.request import RequestRules
from pipeline.skipping import SKIPPING
from pipeline.text_to_image import TextToImage
from runtime.feeds import Feeds
from runtime.interrupt import Interrupt
from runtime.session import Session
from services.ingress.wire.requests import GenerationBody

Runs = list[tuple[Kind, dict[str, tuple[int, ...]]]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What any session is run on from now on: its kind, and the shapes it is fed."""
    seen: Runs = []
    original = Session.run

    def run(
        self: Session, feeds: Feeds, interrupt: Interrupt | None = None, outputs: Collection[str] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        seen.append((self.contract.kind, {name: array.shape for name, array in feeds.items()}))
        return original(self, feeds, interrupt, outputs)

    monkeypatch.setattr(Session, "run", run)
    return seen


def test_the_bare_sessions_run_what_the_chain_runs(task: Task, runs: Runs) -> None:
    bare, chain = BareSessions(task), InProcess(task)
    runs.clear()
    bare.draw()
    of_bare = list(runs)
    runs.clear()
    chain.draw()
    assert of_bare == runs
    # the prompt and the empty negative prompt; guided rows; one picture
    assert [kind for kind, _ in runs] == [*[Kind.TEXT_ENCODER] * 2, *[Kind.DENOISER] * 3, Kind.VAE_DECODER]
    assert runs[0][1]["input_ids"][0] == runs[1][1]["input_ids"][0] == 1
    assert runs[2][1]["latents"] == (2, 4, 8, 8)
    assert runs[-1][1]["latents"] == (1, 4, 8, 8)


def test_bare_and_chain_have_the_same_sessions(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = Session.open.__func__  # type: ignore[attr-defined]

    def open_session(cls: type[Session], *arguments: Any) -> Session:
        opened.append((arguments[0].manifest.contract.kind, arguments[1]))
        session: Session = original(cls, *arguments)
        return session

    monkeypatch.setattr(Session, "open", classmethod(open_session))
    BareSessions(task)
    of_bare = list(opened)
    opened.clear()
    TextToImage.load(task.bundle)
    assert sorted(of_bare) == sorted(opened)
    opened.clear()
    InProcess(task)
    assert sorted(of_bare) == sorted(opened)


def test_the_timed_chain_draws_the_librarys_picture(task: Task) -> None:
    _, image = InProcess(task).draw()
    expected = TextToImage.load(task.bundle).generate(PROMPT, seed=SEED, steps=3)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_stages_are_timed_within_the_whole(task: Task) -> None:
    def check(times: StageTimes) -> None:
        assert len(times.step_ms) == 3
        assert min(times.step_ms) > 0
        assert min(times.text_encoder_ms, times.vae_decoder_ms) > 0
        assert sum(times.step_ms) <= times.denoiser_ms
        assert times.text_encoder_ms + times.denoiser_ms + times.vae_decoder_ms <= times.whole_ms

    bare, chain = BareSessions(task), InProcess(task)
    # the second picture has its own times, not the sum
    for _ in range(2):
        check(bare.draw())
        check(chain.draw()[0])


def test_every_field_of_the_request_is_asked_for(task: Task) -> None:
    request = replace(task.request, guidance_rescale=0.5, guidance_end=0.75, adaptive_guidance=0.99, subseed=3)
    asked = asked_fields(request)
    # one picture has no number, and starts from none; how long a text may be and what is tiled the deployment says
    left_out = ("n", "strength", "mask_blur", "prompt_chunks", "tiling", *SKIPPING)
    said = {name: value for name, value in asdict(request).items() if value not in (None, ())}
    assert asked == {name: value for name, value in said.items() if name not in left_out}
    assert "adaptive_guidance" not in asked_fields(task.request)
    body = GenerationBody.model_validate(request_body(request))
    sent = {name: getattr(body, name) for name in asked if name not in ("width", "height")}
    assert sent == {name: value for name, value in asked.items() if name in sent}
    assert body.size == "64x64"


def test_a_task_has_the_servers_defaults_unless_told(task: Task) -> None:
    rules = RequestRules()
    request = read_task(task.bundle, steps=None).request
    assert (request.steps, request.guidance, request.sampler) == (
        rules.default_steps,
        5.0,  # of a bundle that names none
        rules.default_sampler,
    )
    assert (request.width, request.height, request.n) == (64, 64, 1)
    assert task.request.steps == 3
    with pytest.raises(RequestError, match="steps=0"):
        read_task(task.bundle, steps=0)

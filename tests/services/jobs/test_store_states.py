"""The store of jobs in any order of events: every job has one end, and each owner's are begun as they came."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from components.reference import ComponentRef
from services.jobs.errors import JobEndedError
from services.jobs.records import ClaimedJob, JobStatus
from services.messages import LiveModel
from tests.services.conftest import CONTRACTS
from tests.services.jobs.conftest import ANN, BEN, House
from tests.services.jobs.test_store import FAILURE, drawn

PINS = {kind: ComponentRef(name=f"toy.{kind}", version=1, sha256="0" * 64) for kind in CONTRACTS}


class Events(RuleBasedStateMachine):
    """What may happen to a store, beside what should have become of its jobs."""

    begun = Bundle("begun")

    def __init__(self, fresh_address: Callable[[], str]) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.house = House(Path(self.folder.name), LiveModel("toy", PINS, CONTRACTS), address=fresh_address())
        self.store, self.work = self.house.open()
        self.expected: dict[str, JobStatus] = {}
        self.owners: dict[str, str] = {}
        self.pictures: dict[str, bytes] = {}
        self.keys: dict[tuple[str, str], str] = {}

    def teardown(self) -> None:
        self.house.close()
        self.folder.cleanup()

    @rule(owner=st.sampled_from([ANN, BEN]), key=st.sampled_from([None, "one", "two"]), n=st.integers(1, 3))
    def submit(self, owner: str, key: str | None, n: int) -> None:
        job, new = self.store.submit(self.house.submission(owner, key=key, fingerprint="same", n=n))
        assert new == (key is None or (owner, key) not in self.keys)
        if new:
            self.expected[job.id], self.owners[job.id] = "queued", owner
        if key is not None:
            assert self.keys.setdefault((owner, key), job.id) == job.id

    @rule(target=begun)
    def claim(self) -> tuple[int, ClaimedJob | None]:
        job = self.work.claim()
        waiting = [id_ for id_, status in self.expected.items() if status == "queued"]
        assert (job is None) == (not waiting)
        if job is not None:
            # they are in the order in which they came
            assert job.id == next(id_ for id_ in waiting if self.owners[id_] == self.owners[job.id])
            self.expected[job.id] = "generating"
        return self.work.epoch, job

    @rule(claimed=consumes(begun), fails=st.booleans(), late=st.booleans())
    def end(self, claimed: tuple[int, ClaimedJob | None], fails: bool, late: bool) -> None:
        epoch, job = claimed
        if job is None:
            return
        data = f"{job.id} {epoch} {late}".encode()
        ours = self.expected[job.id] == "generating"
        counts = (
            self.work.fail(job.number, FAILURE)
            if fails
            else self.work.complete(job.number, drawn(*[data] * job.order.request.n), ())
        )
        assert counts == ours
        if counts:
            self.expected[job.id] = "failed" if fails else "completed"
            if not fails:
                self.pictures[job.id] = data

    @rule(claimed=begun)
    def put_back(self, claimed: tuple[int, ClaimedJob | None]) -> None:
        _, job = claimed
        if job is not None and self.work.put_back(job.number, 0.0, begun=False):
            assert self.expected[job.id] == "generating"
            self.expected[job.id] = "queued"

    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        if which >= len(self.expected):
            return
        id_ = list(self.expected)[which]
        try:
            self.store.cancel(id_, self.owners[id_])
        except JobEndedError:
            assert self.expected[id_] in ("completed", "failed")
        else:
            assert self.expected[id_] not in ("completed", "failed")
            self.expected[id_] = "cancelled"

    @rule()
    def start_again(self) -> None:
        self.store, self.work = self.house.open()
        self.expected = {id_: "queued" if status == "generating" else status for id_, status in self.expected.items()}

    @invariant()
    def every_job_is_what_became_of_it(self) -> None:
        for id_, status in self.expected.items():
            job = self.store.view(id_, self.owners[id_])
            assert job.status == status
            files = set() if job.drawn is None else {picture.data for picture in job.drawn.pictures}
            assert files == ({self.pictures[id_]} if status == "completed" else set())


def test_any_order_of_events(fresh_address: Callable[[], str]) -> None:
    class Here(Events):
        def __init__(self) -> None:
            super().__init__(fresh_address)

    run_state_machine_as_test(
        Here,
        settings=settings(max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]),
    )

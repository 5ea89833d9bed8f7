"""What a call of `schedule` costs, counted in operations."""

import gc
import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from diffusion.batcher import Limits, StepBatcher, Ticket

LIMITS = Limits(rows=8, pixels=8 * 64, queued=10**9)
PLAIN = Ticket("plain", "ann", "64", pixels=64, rows=1, evaluations=10)


def batcher_of(*tickets: Ticket) -> StepBatcher:
    batcher = StepBatcher(LIMITS)
    for ticket in tickets:
        batcher.add(ticket)
    return batcher


def many(count: int, like: Ticket, prefix: str = "") -> list[Ticket]:
    return [replace(like, id=f"{prefix}{number}") for number in range(count)]


def operations(batcher: StepBatcher) -> int:
    """Count the bytecode instructions that one `schedule` takes."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    # whatever else a collection would finalize is not its work
    gc.disable()
    sys.settrace(trace)
    try:
        batcher.schedule()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


@pytest.mark.parametrize("same_signature", [True, False])
def test_schedule_takes_linear_time_in_flows(same_signature: bool) -> None:
    def flows(count: int) -> StepBatcher:
        tickets = [
            replace(PLAIN, id=str(number), tenant=str(number), signature="one" if same_signature else number, rows=5)
            for number in range(count)
        ]
        return batcher_of(*tickets)

    few, more, most = (operations(flows(count)) for count in (100, 200, 400))
    assert most - more <= 2.1 * (more - few)
    assert most < 400 * 200


def test_schedule_takes_the_same_time_however_many_tickets_wait_in_a_flow() -> None:
    assert operations(batcher_of(*many(2000, PLAIN))) == operations(batcher_of(*many(20, PLAIN)))

"""The order of passes: it never gets stuck, whatever the groups, and keeps few micro-batches in flight."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import place_groups
from ft_horovod.core.pipelines import deal, pipelines
from ft_horovod.training.stages.flow import Flow


class World:
    """All workers' flows, and messages that take as long as they like."""

    def __init__(self, sizes: list[int], micro_batches: int, seed: int):
        self.random = random.Random(seed)
        self.stages = len(sizes)
        layout = place_groups([WorkerId("host", slot) for slot in range(sum(sizes))], sizes)
        self.ways = pipelines(layout)
        self.dealt = deal(micro_batches, [1.0] * len(self.ways))
        self.flows = {
            worker: Flow([n for n, way in enumerate(self.dealt) if self.ways[way].workers[stage] == worker],
                         stage, self.stages)
            for stage, group in enumerate(layout.groups) for worker in group.members
        }  # fmt: skip
        self.stage = {worker: stage for stage, group in enumerate(layout.groups) for worker in group.members}
        self.forward_done: set[tuple[int, int]] = set()  # stage, micro-batch
        self.backward_done: set[tuple[int, int]] = set()
        self.orders: dict[WorkerId, list[str]] = {worker: [] for worker in self.flows}

    def can(self, worker: WorkerId) -> str | None:
        """What the worker would do now, as `StagePasses` does: a backward pass first."""
        flow, stage = self.flows[worker], self.stage[worker]
        backward, forward = flow.next_backward, flow.next_forward
        if backward is not None and (stage == self.stages - 1 or (stage + 1, backward) in self.backward_done):
            return f"B{backward}"
        if forward is not None and (stage == 0 or (stage - 1, forward) in self.forward_done):
            return f"F{forward}"
        return None

    def run(self) -> None:
        while any(not flow.done for flow in self.flows.values()):
            able = [worker for worker in self.flows if self.can(worker)]
            assert able, "stuck"
            worker = self.random.choice(able)
            action = self.can(worker)
            assert action is not None
            number = int(action[1:])
            if action[0] == "F":
                self.flows[worker].went_forward()
                self.forward_done.add((self.stage[worker], number))
            else:
                self.flows[worker].went_backward()
                self.backward_done.add((self.stage[worker], number))
            self.orders[worker].append(action)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 25), st.integers(0, 10**6))
def test_never_stuck_and_never_more_in_flight_than_stages(sizes: list[int], micro_batches: int, seed: int) -> None:
    world = World(sizes, micro_batches, seed)
    world.run()
    for worker, order in world.orders.items():
        flying = most = 0
        for action in order:
            flying += 1 if action[0] == "F" else -1
            most = max(most, flying)
        assert most <= world.stages - world.stage[worker]
        for kind in "FB":
            numbers = [int(action[1:]) for action in order if action[0] == kind]
            assert numbers == sorted(numbers)
    assert len(world.backward_done) == world.stages * micro_batches


def test_one_forward_one_backward() -> None:
    """In the steady state of equal stages: the textbook's order."""
    flow = Flow(range(4), stage=1, stages=3)
    assert flow.limit == 2
    assert flow.expected == (0, 1)
    flow.went_forward()
    flow.went_forward()
    assert flow.next_forward is None  # two in flight
    assert flow.next_backward == 0
    flow.went_backward()
    assert flow.expected == (2,)
    assert not flow.done


def test_the_last_stage_keeps_one() -> None:
    flow = Flow([3, 5], stage=4, stages=5)
    flow.went_forward()
    assert (flow.next_forward, flow.next_backward) == (None, 3)
    flow.went_backward()
    assert flow.next_forward == 5


def test_nothing_to_do() -> None:
    flow = Flow([], stage=0, stages=2)
    assert flow.done
    assert flow.next_forward is None
    assert flow.next_backward is None

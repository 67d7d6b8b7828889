"""This toolkit's four tiers, decided by the function that decides in live runs: `core.recovery.recover`.

In place while every stage has a holder of its newest state; else a restart from host memory, of which each host keeps a
copy on its neighbour; else from disk. Knows when which tier applies; the plan itself is core's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ft_horovod.core.errors import QuorumLost
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover
from simulator.policies.condensed import Members, condense
from simulator.policies.policy import Hit, Recovery, Rollback, World

IN_PLACE, SMALLER, WARM, COLD = "0 in place", "1 refill", "2 warm restart", "3 cold restart"


class Toolkit:
    """Data-parallel with one stage; with more, nodes are dealt to groups that hold a stage each.

    With role `replica` all compute; with `standby` only each group's leader does, and backups follow.
    """

    copies = True

    def __init__(self, world: World) -> None:
        self.fleet, self.costs = world.fleet, world.scenario.costs
        options = world.scenario.options
        self.needed = max(options.stages, options.min_nodes or 1)
        self.copies = options.host_memory
        self.respawn_ns = self.costs.ns("process_start_s")
        self._standby, self._host_memory = options.role == "standby", options.host_memory
        wanted = self.fleet.wanted
        sizes = tuple(len(range(stage, wanted, options.stages)) for stage in range(options.stages))
        self._goal = Goal(sizes, self.needed)
        self._stages: list[Members] | None = self._deal()
        self._in_place = Recovery(IN_PLACE, self.costs.ns("in_place_s"), Rollback.STEP)
        self._smaller = Recovery(SMALLER, self.costs.ns("in_place_s"), Rollback.STEP)
        self._warm = Recovery(WARM, self.costs.ns("warm_restart_s"), Rollback.COPY)
        self._cold = Recovery(COLD, self.costs.ns("cold_restart_s"), Rollback.DISK)
        self._pause = Recovery("join", self.costs.ns("refill_s"), Rollback.NOTHING)

    def hit(self, hit: Hit) -> Recovery:
        if hit.corrupt:
            return self._restart(self._cold)
        if self._stages is None:  # another loss before the restart was over: there is nothing in place to save
            return self._restart(self._warm if not hit.gone or self._neighbours_live(hit.nodes) else self._cold)
        try:
            plan = self._plan(lost=hit.nodes)
        except QuorumLost:
            gone = set(hit.nodes)
            lost_stages = [members for members in self._stages if gone.issuperset(members)]
            saved = all(not hit.gone or self._neighbours_live(stage) for stage in lost_stages)
            return self._restart(self._warm if self._host_memory and saved else self._cold)
        self._apply(plan, hit.nodes)
        return self._in_place if len(self.fleet.active) >= self.fleet.wanted else self._smaller

    def left(self, nodes: Sequence[int]) -> Recovery:
        try:
            if self._stages is not None:
                self._apply(self._plan(leaving=nodes), nodes)
        except QuorumLost:
            return self._restart(self._warm)
        return Recovery("left", self._pause.pause_ns, Rollback.NOTHING)

    def came(self) -> Recovery | None:
        if len(self.fleet.active) >= self.fleet.wanted:
            return None
        if self._stages is None:
            self.fleet.fill()
        else:
            self._apply(self._plan(), ())
        return self._pause

    def running(self) -> None:
        if self._stages is None:
            self._stages = self._deal()

    def speed(self) -> float:
        """All members compute, and the stage with the fewest for its goal holds up the rest; standbys do not."""
        if self._stages is None:
            return 0.0
        if self._standby:
            return 1.0
        wanted = self.fleet.wanted
        if len(self._stages) == 1:
            return self.costs.throughput.relative(len(self.fleet.active), wanted)
        shares = [len(members) / size for members, size in zip(self._stages, self._goal.members, strict=True)]
        return self.costs.throughput.relative(max(1, round(min(shares) * wanted)), wanted) if min(shares) else 0.0

    def _deal(self) -> list[Members]:
        """As `core.layout.place` deals a roster: in turn to the stages."""
        roster, stages = list(self.fleet.active), len(self._goal.members)
        return [dict.fromkeys(roster[stage::stages]) for stage in range(stages)]

    def _plan(self, lost: Collection[int] = (), leaving: Collection[int] = ()) -> RecoveryPlan:
        stages = self._stages
        if stages is None:
            raise QuorumLost("no layout")
        gone = set(lost) | set(leaving)
        layout, goal, living = condense(stages, self.fleet.spares, self._goal, gone)
        workers = {worker.slot: worker for worker in layout.members}
        return recover(
            layout,
            goal,
            dict.fromkeys([*living, *(workers[node] for node in leaving)], 0),
            lost=[workers[node] for node in lost],
            leaving=[workers[node] for node in leaving],
        )

    def _apply(self, plan: RecoveryPlan, gone: Sequence[int]) -> None:
        stages = self._stages
        if stages is None:
            return
        for node in gone:
            for members in stages:
                members.pop(node, None)
        for move in plan.moves:
            node = move.worker.slot
            if move.from_stage is None:
                self.fleet.bring(node)
            else:
                del stages[move.from_stage][node]
            stages[move.stage][node] = None

    def _restart(self, recovery: Recovery) -> Recovery:
        self._stages = None
        self.fleet.fill()
        return recovery

    def _neighbours_live(self, nodes: Collection[int]) -> bool:
        """Whether the copy of one of the nodes' states is alive on the host that follows it."""
        machines = len(self.fleet.active) + len(self.fleet.spares) + len(self.fleet.away)
        return any((node + 1) % machines not in self.fleet.away for node in nodes)

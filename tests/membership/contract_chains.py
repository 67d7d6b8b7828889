"""Which scenes are played one after the other by the same processes: starting them costs seconds, a scene does not.

A chain starts as many workers as its scenes use up, and then some.
"""

from __future__ import annotations

from contract_scenes import Scene
from scenes_calm import SCENES as CALM
from scenes_deaths import SCENES as DEATHS
from scenes_newcomers import SCENES as NEWCOMERS

_BY_NAME = {scene.name: scene for scene in (*CALM, *DEATHS, *NEWCOMERS)}


def _chain(names: str) -> tuple[int, tuple[Scene, ...]]:
    """The workers that a chain needs, and its scenes."""
    scenes = tuple(_BY_NAME[name] for name in names.split())
    needed, used_up = 0, 0
    for scene in scenes:
        needed = max(needed, used_up + scene.workers)
        used_up += len(scene.dies) + len(scene.leaves)
    return needed, scenes


CHAINS = {
    "calm": _chain("all_meet all_sum state_reaches_its_targets spare_is_called one_leaves backup_dies"),
    "in_the_step": _chain("leader_dies two_die_at_once spare_dies dies_in_the_middle_of_sums backup_dies"),
    "in_recovery": _chain("dies_while_others_regroup dies_inside_regroup dies_before_form dies_while_others_form"),
    "in_transfers": _chain("source_dies_in_a_transfer target_dies_in_a_transfer dies_right_after_form"),
    "newcomers": _chain("newcomers_come_in newcomer_dies_when_in newcomer_dies_when_ready newcomer_dies_at_once"),
    "inviters": _chain("inviters_lose_somebody dies_before_inviting dies_while_inviting host_is_lost"),
}

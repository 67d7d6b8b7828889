"""The contract of `Membership`, kept by the in-memory backend."""

from __future__ import annotations

import pytest
import scenes_calm
import scenes_deaths
import scenes_newcomers
from contract_scenes import Scene
from memory_stage import play_in_memory

ALL = (*scenes_calm.SCENES, *scenes_deaths.SCENES, *scenes_newcomers.SCENES)


@pytest.mark.parametrize("workers", [4, 7])
@pytest.mark.parametrize("scene", ALL, ids=lambda scene: scene.name)
def test_contract(scene: Scene, workers: int) -> None:
    scene.judge(play_in_memory(scene, workers))

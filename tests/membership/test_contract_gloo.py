"""The contract of `Membership`, kept by real processes over Gloo, of which some are really killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract_chains import CHAINS
from contract_scenes import Outcome
from gloo_stage import play_over_gloo

LIMIT_S = 150.0  # of one chain; on two idle cores the longest takes some 25 s, most of it imports

pytestmark = [pytest.mark.system, pytest.mark.timeout(LIMIT_S + 30)]

Played = Callable[[str], list[Outcome]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Plays a chain when it is asked for first."""
    chains: dict[str, list[Outcome]] = {}
    folders = {}

    def play(chain: str) -> list[Outcome]:
        if chain not in chains:
            folders[chain] = tmp_path_factory.mktemp(chain)
            chains[chain] = play_over_gloo(chain, folders[chain], LIMIT_S)
        print((folders[chain] / "output.txt").read_text(errors="replace")[-4000:])  # shown when the test fails
        return chains[chain]

    return play


@pytest.mark.parametrize(
    ("chain", "number"),
    [
        pytest.param(chain, number, id=f"{chain}-{scene.name}")
        for chain, (_, scenes) in CHAINS.items()
        for number, scene in enumerate(scenes)
    ],
)
def test_contract(played: Played, chain: str, number: int) -> None:
    outcome = played(chain)[number]
    assert outcome.notes, "not reached: see the scene before"
    CHAINS[chain][1][number].judge(outcome)

"""A verdict given inside an experiment is carried out later, once, and only if it still holds."""

import pytest

from pipelines.registry.aliases import ReleaseError, promote
from pipelines.registry.deferred import carry_out
from pipelines.registry.release import register
from pipelines.tracking.moves import Aliases, read_aliases, read_moves
from pipelines.tracking.versions import get_version

GOOD, OFF_LEFT, OFF_RIGHT = (0.0, 0.0), (12.0, 0.0), (0.0, 12.0)
TAGS = {"release.branch": "retrain/1", "release.commit": "c0ffee"}


def test_a_promotion_is_carried_out_once(tracking, paths, make_workspace):
    receipt = register(tracking, make_workspace(paths, GOOD, experiment="retrain/1"))
    assert read_aliases(tracking, "rtmo") == Aliases()
    move = carry_out(paths, receipt, TAGS)
    assert move is not None
    assert (move.by, move.why) == ("tester@here", f"first: {receipt.words}")
    assert carry_out(paths, receipt, TAGS) is None
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    assert len(read_moves(tracking, "rtmo")) == 1
    assert TAGS.items() <= get_version(tracking, "rtmo", 1).tags.items()


def test_what_the_gate_did_not_promote_becomes_challenger(tracking, paths, make_workspace):
    carry_out(paths, register(tracking, make_workspace(paths, OFF_LEFT, experiment="r/1")), TAGS)
    receipt = register(tracking, make_workspace(paths, OFF_RIGHT, experiment="r/2"))
    assert receipt.verdict == "cannot tell"
    carry_out(paths, receipt, TAGS)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1, challenger=2)


def test_a_verdict_against_a_former_champion_is_refused(tracking, paths, make_workspace):
    carry_out(paths, register(tracking, make_workspace(paths, OFF_LEFT, experiment="r/1")), TAGS)
    register(tracking, make_workspace(paths, OFF_RIGHT, experiment="r/2"))
    receipt = register(tracking, make_workspace(paths, GOOD, experiment="r/3"))
    assert receipt.verdict == "better", receipt.words
    promote(tracking, "rtmo", 2, expected=1, by="somebody", why="meanwhile")
    with pytest.raises(ReleaseError, match="now version 2, not 1"):
        carry_out(paths, receipt, TAGS)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)

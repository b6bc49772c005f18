"""Moves of the aliases: history first, finished by whoever comes next."""

import shutil

import pytest

from pipelines.registry import commands
from pipelines.registry.aliases import (
    ReleaseError,
    challenge,
    champion_line,
    promote,
    rollback,
    settle,
)
from pipelines.tracking.moves import Aliases, append_move, read_aliases, read_moves, write_aliases
from pipelines.tracking.versions import UnknownVersionError, create_version

WHO = {"by": "tester", "why": "because"}


@pytest.fixture
def versions(tracking, paths, repository, tmp_path) -> tuple[int, ...]:
    """Three versions without aliases; what is in them does not matter here."""
    shutil.copy(repository / "params.yaml", paths.params)
    package = tmp_path / "package"
    package.mkdir()
    (package / "MLmodel").write_text("{}")
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    return tuple(
        create_version(
            tracking, "rtmo", package, content_hash=f"{number}", run_id=run_id, tags={}
        ).number
        for number in range(3)
    )


def test_promote_keeps_the_former_champion_as_previous(tracking, versions):
    promote(tracking, "rtmo", 1, expected=None, **WHO)
    challenge(tracking, "rtmo", 2, **WHO)
    promote(tracking, "rtmo", 2, expected=1, **WHO)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)
    assert [(m.kind, m.by, m.why) for m in read_moves(tracking, "rtmo")] == [
        ("promote", "tester", "because"),
        ("challenge", "tester", "because"),
        ("promote", "tester", "because"),
    ]


def test_promoting_the_champion_again_is_no_move(tracking, versions):
    promote(tracking, "rtmo", 1, expected=None, **WHO)
    assert promote(tracking, "rtmo", 1, expected=1, **WHO) is None
    assert len(read_moves(tracking, "rtmo")) == 1


def test_a_promotion_decided_against_another_champion_is_refused(tracking, versions):
    promote(tracking, "rtmo", 1, expected=None, **WHO)
    promote(tracking, "rtmo", 2, expected=1, **WHO)
    with pytest.raises(ReleaseError, match="now version 2, not 1"):
        promote(tracking, "rtmo", 3, expected=1, **WHO)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)


def test_an_unknown_version_cannot_be_promoted(tracking, versions):
    with pytest.raises(UnknownVersionError):
        promote(tracking, "rtmo", 9, expected=None, **WHO)


def test_rollbacks_go_back_one_champion_at_a_time(tracking, versions):
    for number, before in ((1, None), (2, 1), (3, 2)):
        promote(tracking, "rtmo", number, expected=before, **WHO)
    rollback(tracking, "rtmo", **WHO)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)
    rollback(tracking, "rtmo", **WHO)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    with pytest.raises(ReleaseError, match="no previous champion"):
        rollback(tracking, "rtmo", **WHO)
    promote(tracking, "rtmo", 3, expected=1, **WHO)
    assert champion_line(read_moves(tracking, "rtmo")) == (1, 3)


@pytest.mark.parametrize(
    "state_after_crash",
    [
        Aliases(champion=1),
        Aliases(champion=1, previous=1),
        Aliases(champion=2, previous=1),
    ],
)
def test_a_move_cut_short_at_any_point_is_finished(state_after_crash, tracking, versions):
    promote(tracking, "rtmo", 1, expected=None, **WHO)
    after = Aliases(champion=2, previous=1)
    append_move(tracking, "rtmo", "promote", before=Aliases(champion=1), after=after, **WHO)
    write_aliases(tracking, "rtmo", state_after_crash)
    assert settle(tracking, "rtmo") == after
    assert read_aliases(tracking, "rtmo") == after
    assert all(move.is_done for move in read_moves(tracking, "rtmo"))
    assert len(read_moves(tracking, "rtmo")) == 2


def test_a_champion_set_by_other_means_is_recorded_and_left(tracking, versions):
    promote(tracking, "rtmo", 1, expected=None, **WHO)
    tracking.client.set_registered_model_alias("rtmo", "champion", "3")
    assert settle(tracking, "rtmo").champion == 3
    last = read_moves(tracking, "rtmo")[-1]
    assert (last.kind, last.before.champion, last.after.champion) == ("outside", 1, 3)


def test_the_commands_promote_roll_back_and_tell(tracking, paths, versions):
    commands.promote(paths, 1, by="ann", why="first release")
    commands.promote(paths, 2, by="ann", why="smaller")
    commands.rollback(paths, by="bob", why="misses children")
    lines = [commands.describe(move) for move in commands.history(paths)]
    assert "promote  champion - -> 1  by ann: first release" in lines[0]
    assert "rollback  champion 2 -> 1, previous 1 -> -  by bob: misses children" in lines[2]


def test_the_commands_want_a_reason_and_refuse_what_the_gate_blocked(tracking, paths, versions):
    with pytest.raises(ReleaseError, match="say why"):
        commands.promote(paths, 1, by="ann", why=" ")
    tracking.client.set_model_version_tag("rtmo", "1", "verdict", "blocked")
    with pytest.raises(ReleaseError, match="the gate blocked version 1"):
        commands.promote(paths, 1, by="ann", why="anyway")

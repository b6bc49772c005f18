"""The gate on real models: what is registered and which aliases move."""

import shutil
from dataclasses import replace

import pytest

from pipelines.registry import commands
from pipelines.registry.aliases import ReleaseError
from pipelines.registry.release import Registration, register
from pipelines.tracking.moves import Aliases, read_aliases, read_moves
from pipelines.tracking.packaging import BrokenPackageError
from pipelines.tracking.versions import all_versions, attached_json, get_version

GOOD, OFF_LEFT, OFF_RIGHT, BAD = (0.0, 0.0), (12.0, 0.0), (0.0, 12.0), (12.0, 12.0)


def kinds(tracking) -> list[str]:
    return [move.kind for move in read_moves(tracking, "rtmo")]


def test_a_first_model_above_the_floor_becomes_champion(tracking, paths, make_workspace):
    receipt = register(tracking, make_workspace(paths, GOOD))
    assert receipt.verdict == "first"
    assert receipt.is_champion
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    (move,) = read_moves(tracking, "rtmo")
    assert (move.kind, move.by, move.is_done) == ("promote", "tester@here", True)
    assert "reaches the floor" in move.why
    tags = get_version(tracking, "rtmo", 1).tags
    assert tags["verdict"] == "first"
    assert tags["git.commit"] == "c0ffee"
    assert tags["gate.AP"] == f"{0.5611:.4f}"
    run = tracking.client.get_run(get_version(tracking, "rtmo", 1).run_id)
    assert run.data.tags["stage_hash"] == receipt.stage_hash
    assert run.data.metrics["AP"] == 0.25


def test_a_first_model_below_the_floor_is_registered_and_not_promoted(
    tracking, paths, make_workspace
):
    receipt = register(tracking, make_workspace(paths, GOOD, floor_ap=0.9))
    assert receipt.verdict == "blocked"
    assert read_aliases(tracking, "rtmo") == Aliases(challenger=1)


@pytest.mark.parametrize("commercial_use", ["no", "unknown"])
def test_a_licence_blocks_unless_it_is_signed_for_by_name(
    commercial_use, tracking, paths, make_workspace
):
    blocked = make_workspace(paths, GOOD, commercial_use=commercial_use)
    assert register(tracking, blocked).verdict == "blocked"
    assert read_aliases(tracking, "rtmo").champion is None
    signed = make_workspace(
        paths, GOOD, commercial_use=commercial_use, allow_licences=("Some terms",)
    )
    assert register(tracking, signed).verdict == "first"
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)


def test_better_promotes_worse_and_cannot_tell_do_not(tracking, paths, make_workspace):
    assert register(tracking, make_workspace(paths, OFF_LEFT)).verdict == "first"
    cannot_tell = register(tracking, make_workspace(paths, OFF_RIGHT))
    assert cannot_tell.verdict == "cannot tell", cannot_tell.words
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1, challenger=2)
    better = register(tracking, make_workspace(paths, GOOD))
    assert better.verdict == "better", better.words
    assert read_aliases(tracking, "rtmo") == Aliases(champion=3, previous=1, challenger=2)
    worse = register(tracking, make_workspace(paths, BAD))
    assert worse.verdict == "worse", worse.words
    assert read_aliases(tracking, "rtmo") == Aliases(champion=3, previous=1, challenger=4)
    assert kinds(tracking) == ["promote", "challenge", "promote", "challenge"]


def test_registering_twice_gives_one_version_one_run_and_one_move(tracking, paths, make_workspace):
    workspace = make_workspace(paths, GOOD)
    register(tracking, workspace)
    again = register(tracking, workspace)
    assert again.verdict == "same"
    assert get_version(tracking, "rtmo", 1).tags["verdict"] == "first"
    assert [version.number for version in all_versions(tracking, "rtmo")] == [1]
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 1
    assert len(tracking.client.search_logged_models([tracking.experiment_id])) == 1
    assert kinds(tracking) == ["promote"]


def test_inside_an_experiment_no_alias_moves(tracking, paths, make_workspace):
    receipt = register(tracking, make_workspace(paths, GOOD, experiment="ember-lynx"))
    assert receipt.verdict == "first"
    assert receipt.champion is None
    assert read_aliases(tracking, "rtmo") == Aliases()
    assert read_moves(tracking, "rtmo") == ()
    assert [version.number for version in all_versions(tracking, "rtmo")] == [1]


def test_the_champion_is_asked_again_when_the_gate_data_changed(tracking, paths, make_workspace):
    register(tracking, make_workspace(paths, OFF_LEFT, num_images=12))
    shutil.rmtree(paths.processed("embedded") / "gate")
    changed = make_workspace(paths, GOOD, num_images=20)
    champion = get_version(tracking, "rtmo", 1)
    assert attached_json(tracking, champion, changed.gate.artifact) is None
    assert register(tracking, changed).verdict == "better"
    kept = attached_json(tracking, champion, changed.gate.artifact)
    assert {found["image_id"] for found in kept} == set(range(1, 21))


def test_a_model_too_slow_is_blocked(tracking, paths, make_workspace):
    register(tracking, make_workspace(paths, OFF_LEFT))
    receipt = register(tracking, make_workspace(paths, GOOD, max_latency_ratio=0.01))
    assert receipt.verdict == "blocked"
    assert "too slow" in receipt.words


def test_a_model_that_does_not_load_is_never_registered(tracking, paths, make_workspace):
    workspace: Registration = make_workspace(paths, GOOD)
    workspace.candidate.onnx.write_bytes(b"not a model")
    with pytest.raises(BrokenPackageError, match=r"rtmo\.onnx"):
        register(tracking, workspace)
    assert all_versions(tracking, "rtmo") == ()


def test_every_new_model_is_one_look_at_the_gate_data(tracking, paths, make_workspace):
    words = [
        register(tracking, make_workspace(paths, model)).words
        for model in (OFF_LEFT, BAD, BAD, OFF_RIGHT)
    ]
    assert [text.partition("; look ")[2][:1] for text in words] == ["1", "2", "2", "3"]
    assert "on this split about +" in words[1]
    assert "seed deviation 0.0050, assumed" in words[1]


def test_only_who_is_named_changes_the_champion(tracking, paths, make_workspace):
    names = {"promoters": ("ann",)}
    assert register(tracking, make_workspace(paths, GOOD, **names)).verdict == "first"
    assert read_aliases(tracking, "rtmo") == Aliases(challenger=1)  # the gate is not named
    paths.params.write_text(
        paths.params.read_text().replace("  promoters: []", "  promoters: [ann]")
    )
    with pytest.raises(ReleaseError, match=r"bob@here may not .* names ann"):
        commands.promote(paths, 1, by="bob@here", why="hurry")
    assert commands.promote(paths, 1, by="ann@here", why="looked at it").after.champion == 1
    with pytest.raises(ReleaseError, match="bob may not"):
        commands.rollback(paths, by="bob", why="hurry")
    named = make_workspace(paths, BAD, promoters=("gate",), floor_ap=0.0)
    assert register(tracking, named).verdict == "worse"


@pytest.mark.parametrize(("commercial_use", "verdict"), [("yes", "first"), ("no", "blocked")])
def test_the_licence_of_initial_weights_counts(
    commercial_use, verdict, tracking, paths, make_workspace
):
    workspace = make_workspace(paths, GOOD)
    licence = {"name": "Terms of weights", "url": "", "commercial_use": commercial_use}
    initial = {"file": "start.safetensors", "sha256": "0" * 64, "licences": [licence]}
    card = {**workspace.candidate.card, "initial": initial}
    workspace = replace(workspace, candidate=replace(workspace.candidate, card=card))
    receipt = register(tracking, workspace)
    assert receipt.verdict == verdict
    assert ("Terms of weights" in receipt.words) == (verdict == "blocked")
    assert get_version(tracking, "rtmo", 1).tags["initial.sha256"] == "0" * 64

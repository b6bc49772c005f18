"""Which version is meant, what it needs, and when a repetition agrees. A real training is repeated
in test_whole.py.
"""

import json

import pytest

from pipelines.git_command import GitError
from pipelines.params import RegisterConfig
from pipelines.registry.release import register
from pipelines.reproduction import AddressError, ReproductionError, find_address, judge, reproduce
from pipelines.tracking.versions import UnknownVersionError
from pipelines.worktree import HistoryError

GOOD, OFF_LEFT = (0.0, 0.0), (12.0, 0.0)
RULES = RegisterConfig(
    name="rtmo",
    floor_ap=0.2,
    bootstrap_samples=1000,
    confidence=0.95,
    min_effect=0.0,
    max_latency_ratio=1.1,
)
HERE, ELSEWHERE = (), ("trained on another processor",)


@pytest.mark.parametrize(
    ("now", "is_same_model", "differences", "seed_std", "outcome"),
    [
        (0.5, True, HERE, None, "identical"),
        (0.5, True, ELSEWHERE, None, "identical"),
        (0.5, False, HERE, None, "differs"),  # the same AP from other weights
        (0.5001, False, HERE, 0.01, "differs"),  # the seed explains nothing on the same processor
        (0.5001, False, ELSEWHERE, None, "cannot tell"),
        (0.52, False, ELSEWHERE, 0.01, "within seed deviation"),
        (0.53, False, ELSEWHERE, 0.01, "differs"),
    ],
)
def test_agreement_is_asked_for_by_the_bit_or_within_the_seeds(
    now, is_same_model, differences, seed_std, outcome
):
    rules = RULES.model_copy(update={"seed_std": seed_std})
    metrics = {"val.AP": (0.5, now)}
    assert judge(rules, metrics, differences, is_same_model=is_same_model).outcome == outcome


def test_addresses_name_versions_and_what_is_not_there_is_told(tracking, paths, make_workspace):
    register(tracking, make_workspace(paths, GOOD))
    for address in ("models:/rtmo/1", "models:/rtmo@champion", "1", "champion"):
        assert find_address(tracking, "rtmo", address).number == 1
    for address in ("models:/other/1", "runs:/1/model", "challenger"):
        with pytest.raises(AddressError, match=r"no version of 'rtmo'"):
            find_address(tracking, "rtmo", address)
    with pytest.raises(UnknownVersionError, match=r"no version 7 .* it has 1"):
        reproduce(paths, "models:/rtmo/7", print)
    with pytest.raises(GitError, match="not a git repository"):
        reproduce(paths, "champion", print)


def test_a_version_is_made_again_from_its_commit_in_a_worktree(release, paths, git):
    release(OFF_LEFT)
    release(GOOD)  # the workspace holds this one now
    before = (paths.root / "models/train/weights.safetensors").read_text()
    found = reproduce(paths, "models:/rtmo/1", print)
    assert found.outcome == "identical", found.words
    assert set(found.metrics) >= {"val.AP", "gate.AP"}
    assert (paths.root / "models/train/weights.safetensors").read_text() == before
    assert git(paths.root, "worktree", "list").count("\n") == 1

    names = json.loads((paths.root / "found.json").read_text())
    (paths.root / "found.json").write_text(json.dumps(dict.fromkeys(names, 0.1)))
    git(paths.root, "commit", "-qam", "Evaluates differently", "--amend")
    found = reproduce(paths, "models:/rtmo/2", print)
    assert found.outcome == "cannot tell"  # the registration here names no processor
    assert "and is 0.1000; trained on an unknown processor" in found.words


def test_what_was_not_committed_or_is_gone_is_named(release, paths, git):
    release(GOOD)
    cache = paths.root / ".dvc" / "cache"
    cache.rename(paths.root / "kept")
    with pytest.raises(ReproductionError, match="neither DVC's cache nor its remote"):
        reproduce(paths, "champion", print)

    (paths.root / "kept").rename(cache)
    (paths.root / "recipe.txt").write_text("another recipe")
    git(paths.root, "commit", "-qam", "What was meant", "--amend")
    with pytest.raises(ReproductionError, match=r"not committed; .*recipe\.txt"):
        reproduce(paths, "champion", print)

    git(paths.root, "rm", "-q", "--cached", "dvc.lock")
    git(paths.root, "commit", "-qm", "Never had a lock", "--amend")
    with pytest.raises(HistoryError, match=r"no commit here has a dvc\.lock .* fetched\?"):
        reproduce(paths, "champion", print)

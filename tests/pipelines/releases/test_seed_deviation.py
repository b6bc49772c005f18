"""`benchmarks/seed_deviation.py` on versions that differ in their seed."""

import json
from dataclasses import replace

from benchmarks import seed_deviation
from pipelines.registry.candidate import read_candidate
from pipelines.registry.release import register


def test_versions_of_one_recipe_are_compared_by_seed(
    tracking, paths, make_workspace, monkeypatch, capsys
):
    monkeypatch.chdir(paths.root)
    (paths.root / "dvc.yaml").write_text("stages: {}\n")
    for seed, off in ((0, 0.0), (1, 6.0)):
        registration = make_workspace(paths, (off, off), experiment="seeds")
        card_file = paths.trained / "model_card.json"
        card = json.loads(card_file.read_text()) | {"seed": seed}
        card_file.write_text(json.dumps(card))
        train = registration.params.train.model_copy(update={"seed": seed})
        params = registration.params.model_copy(update={"train": train})
        register(tracking, replace(registration, params=params, candidate=read_candidate(paths)))
    seed_deviation.main()
    said = capsys.readouterr().out
    assert "seed 0: AP " in said
    assert "(2 seeds)" in said
    assert "register.seed_std: 0." in said

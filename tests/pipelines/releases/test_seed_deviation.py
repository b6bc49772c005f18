"""`benchmarks/seed_deviation.py` on runs that differ in their seed, or in more."""

import pytest

from benchmarks import seed_deviation


@pytest.fixture
def make_run(tracking, paths, monkeypatch):
    """Makes a finished run that evaluated the gate split."""
    monkeypatch.chdir(paths.root)
    (paths.root / "dvc.yaml").write_text("stages: {}\n")

    def make(seed: int, ap: float, lr: float = 1e-3, data: str = "d" * 64) -> None:
        params = {"train": {"seed": seed, "optimizer": {"lr": lr}}}
        stage_hash = f"{seed} {ap} {lr} {data}"
        with tracking.training_run(stage_hash, params, {"data_digest": data}) as reporter:
            reporter.log_metrics(0, {seed_deviation.GATE_AP: ap})

    return make


def said_by_main(capsys) -> list[str]:
    seed_deviation.main()
    return capsys.readouterr().out.splitlines()


def test_runs_of_one_recipe_are_compared_by_seed(make_run, capsys):
    make_run(0, 0.27)
    make_run(1, 0.28)
    make_run(2, 0.90, lr=2e-3)
    make_run(3, 0.95, data="e" * 64)
    assert said_by_main(capsys) == [
        "seed 0: AP 0.2700, seed 1: AP 0.2800",
        "mean 0.2750, deviation 0.0071 (95 %: 0.0032 to 0.2256; 2 seeds)",
        "register.seed_std: 0.0071",
    ]


def test_of_two_runs_with_one_seed_the_newer_counts(make_run, capsys):
    make_run(0, 0.10)
    make_run(0, 0.27)
    make_run(1, 0.28)
    assert said_by_main(capsys)[0] == "seed 0: AP 0.2700, seed 1: AP 0.2800"


def test_one_seed_is_not_a_deviation(make_run, capsys):
    make_run(0, 0.27)
    make_run(1, 0.28, lr=2e-3)
    assert "more than one seed" in said_by_main(capsys)[0]

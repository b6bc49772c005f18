"""Models are found by what one knows of them, compared, and described."""

import json

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.registry.difference import diff, model_card
from pipelines.registry.lookup import FoundModel, QuestionError, answer, find_models, parse
from pipelines.registry.release import register
from pipelines.tracking.figures import Figure
from pipelines.tracking.versions import UnknownVersionError

GOOD, OFF_LEFT = (0.0, 0.0), (12.0, 0.0)


def model(
    version: int, ap: float, latency_ms: float, *, data: str = "d", hardware: str = "h"
) -> FoundModel:
    figures = (
        Figure("gate.AP", ap, "embedded/gate", data),
        Figure("latency_p50_ms", latency_ms, "", ""),
    )
    return FoundModel(
        version, f"models:/rtmo/{version}", (), "", data, "c", "s", "content", hardware, figures
    )


@pytest.mark.parametrize(
    ("question", "versions"),
    [
        ("", [3, 2, 1]),
        ("best AP", [2]),
        ("best gate.AP with latency_p50_ms below 5", [1]),
        ("best latency_p50_ms", [1]),
        ("AP above 0.45", [2, 1]),
        ("with AP above 0.45 and latency_p50_ms above 5", [2]),
        ("best AP with latency_p50_ms below 1", []),
    ],
)
def test_a_question_is_answered(question: str, versions: list[int]) -> None:
    models = [model(3, 0.4, 4.5), model(2, 0.6, 9.0), model(1, 0.5, 4.0)]
    assert [found.version for found in answer(parse(question), models)] == versions


def test_figures_on_other_data_or_hardware_are_not_compared() -> None:
    models = [model(3, 0.4, 4.5), model(2, 0.9, 4.0, data="old"), model(1, 0.5, 1.0, hardware="x")]
    assert [found.version for found in answer(parse("best AP"), models)] == [1]
    assert [found.version for found in answer(parse("best latency_p50_ms"), models)] == [2]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("best", "names no metric"),
        ("best AP with", "cannot read `with`"),
        ("fastest", "cannot read `fastest`"),
        ("AP over 0.5", "ask .best METRIC"),
        ("AP above high", "'high' in .* is no number"),
        ("AP above 0.1 and", "cannot read"),
        ("AP above 0.1 AR above 0.1", "cannot read"),
        ("best AP_hard", "no model has a figure 'gate.AP_hard'; there are gate.AP, latency_p50_ms"),
    ],
)
def test_what_cannot_be_answered_is_explained(question: str, message: str) -> None:
    with pytest.raises(QuestionError, match=message):
        answer(parse(question), [model(1, 0.5, 4.0)])


@pytest.fixture
def two_versions(tracking, paths, make_workspace, monkeypatch):
    """Version 1 misses half of the people by a little, version 2, the champion, nobody."""
    monkeypatch.chdir(paths.root)
    (paths.root / "dvc.yaml").touch()
    register(tracking, make_workspace(paths, OFF_LEFT))
    register(tracking, make_workspace(paths, GOOD))


def ask(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_registered_models_are_found_compared_and_described(two_versions, tracking, paths):
    def found(**known):
        return [model.version for model in find_models(paths, **known)]

    assert found() == [2, 1]
    assert found(alias="champion") == [2]
    assert found(version=1) == [1]
    assert found(commit="c0ff") == [2, 1]
    assert found(commit="beef") == []
    assert found(data_version="ddd", question="best AP") == [2]
    assert found(question="best AP with latency_p50_ms below 1000", alias="previous") == [1]

    listed = json.loads(ask("models", "best AP", "--json"))
    assert [(entry["version"], entry["uri"]) for entry in listed] == [(2, "models:/rtmo/2")]
    assert "champion" in ask("models")

    rows = {(row.subject, row.name): row for row in diff(paths, 1, 2)}
    ap = rows["metrics", "val.AP"]
    assert ap.differs
    assert " to " in ap.left
    assert not rows["data", "gate split"].differs
    assert rows["errors", "AP gained without miss"].differs
    assert "threads" in rows["latency", "hardware"].left
    assert "same" in ask("diff", "1", "2")
    assert json.loads(ask("diff", "1", "2", "--json"))[0]["name"] == "commit"

    card = model_card(paths, 2)
    for part in ("0.5611 (0.5611 to 0.5611)", "## Limits", "costliest error is `miss`", "better: "):
        assert part in card
    with pytest.raises(UnknownVersionError, match="no version 7"):
        diff(paths, 1, 7)


def test_a_plain_mlflow_client_finds_the_same(two_versions, tracking, paths):
    client = MlflowClient(tracking_uri=tracking.address.uri)
    experiment = client.get_experiment_by_name("rtmo").experiment_id
    (best,) = client.search_logged_models(
        [experiment],
        "metrics.latency_p50_ms < 1000",
        max_results=1,
        order_by=[
            {
                "field_name": "metrics.gate.AP",
                "ascending": False,
                "dataset_name": "embedded/gate",
                "dataset_digest": "md5-of-12-images.dir",
            }
        ],
    )
    (version,) = client.search_model_versions(f"name = 'rtmo' and tag.model_id = '{best.model_id}'")
    assert version.version in ("2", 2)


def test_registering_again_adds_no_figure_twice(tracking, paths, make_workspace):
    for _ in range(2):
        register(tracking, make_workspace(paths, GOOD))
    (found,) = find_models(paths)
    names = [figure.name for figure in found.figures]
    assert len(names) == len(set(names))

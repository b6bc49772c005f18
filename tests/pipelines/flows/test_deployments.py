"""prefect.yaml deploys flows that exist, with parameters that they take."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.flows import Flow, load_flow_from_entrypoint
from ruamel.yaml import YAML

from pipelines import dvc_graph
from pipelines.flows.events import NEW_DATA

ROOT = Path(__file__).parents[3]
DEPLOYMENTS = {
    entry["name"]: entry for entry in YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]
}


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    file, name = deployment["entrypoint"].split(":")
    return load_flow_from_entrypoint(f"{ROOT / file}:{name}")


def test_the_whole_pipeline_its_parts_and_retraining_are_deployed() -> None:
    assert set(DEPLOYMENTS) == {"retrain", "pipeline", "train", "evaluate", "inspect", "export"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_asks_for_a_stage_that_exists(name: str) -> None:
    parameters = flow_of(DEPLOYMENTS[name]).validate_parameters(DEPLOYMENTS[name]["parameters"])
    assert parameters["target"] in dvc_graph.order(ROOT)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_runs_of_a_deployment_do_not_pile_up(name: str) -> None:
    limit = DEPLOYMENTS[name]["concurrency_limit"]
    assert limit == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_only_retraining_has_a_schedule() -> None:
    scheduled = {
        name: entry["schedules"] for name, entry in DEPLOYMENTS.items() if "schedules" in entry
    }
    assert list(scheduled) == ["retrain"]
    assert [CronSchedule(**entry) for entry in scheduled["retrain"]]


def test_new_data_starts_retraining_by_the_event_that_is_announced() -> None:
    (trigger,) = (
        DeploymentEventTrigger(**given)
        for entry in DEPLOYMENTS.values()
        for given in entry.get("triggers", ())
    )
    assert trigger.expect == {NEW_DATA}
    assert trigger.match.matches({"prefect.resource.id": "rtmo.data.embedded"})


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_deployment_sets_a_number_of_a_run(name: str) -> None:
    assert set(DEPLOYMENTS[name]["parameters"]) <= {"target", "remote", "branch"}
    assert set(flow_of(DEPLOYMENTS[name]).parameters.properties) <= {"target", "remote", "branch"}

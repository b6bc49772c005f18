"""Whatever is wrong in params.yaml is said with its full key, the value and what is expected."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipelines.params import (
    ParamsError,
    load_former_params,
    load_params,
    read_yaml,
    validate_params,
)
from pipelines.presets import differences


@pytest.fixture
def content(repository: Path) -> Any:
    return read_yaml(repository / "params.yaml")


def error_of(content: object) -> str:
    with pytest.raises(ParamsError) as caught:
        validate_params(content, source="params.yaml")
    return str(caught.value)


def test_the_params_we_ship_are_valid_and_supported(repository: Path) -> None:
    params = load_params(repository)
    assert params.data.dataset == "embedded"
    assert params.registration.name == "rtmo"


def test_no_number_of_a_run_hides_in_a_default(repository: Path, content: Any) -> None:
    everything = load_params(repository).model_dump(mode="json", by_alias=True)
    assert differences(content, everything) == ()


def test_params_of_a_former_commit_get_what_they_lack_from_the_present_ones(
    repository: Path, content: Any, tmp_path: Path
) -> None:
    del content["benchmark"], content["train"]["optimizer"]["clip_norm"]
    content["train"]["seed"] = 7
    YAML().dump(content, tmp_path / "params.yaml")
    present = load_params(repository)
    former = load_former_params(tmp_path, repository)
    assert former.train.seed == 7
    assert former.benchmark == present.benchmark
    assert former.train.optimizer == present.train.optimizer
    content["train"]["no_more"] = 1
    YAML().dump(content, tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=r"former commit: train\.no_more is not a known key"):
        load_former_params(tmp_path, repository)


def test_an_unknown_key_is_named_with_its_path_and_the_likely_one(content: Any) -> None:
    content["train"]["optimizer"]["learning_rate"] = 1
    content["train"]["epoch"] = 3
    assert error_of(content).splitlines() == [
        "params.yaml: train.optimizer.learning_rate is not a known key; known here: clip_norm, "
        "cosines, encoder_lr_factor, lr, min_lr, warmup_epochs, weight_decay",
        "params.yaml: train.epoch is not a known key; did you mean epochs?",
    ]


def test_an_unknown_key_inside_a_list_is_named_with_its_place(content: Any) -> None:
    content["train"]["phases"][0]["loss"]["clss"] = 1.0
    assert (
        error_of(content)
        == "params.yaml: train.phases.0.loss.clss is not a known key; did you mean cls?"
    )


def test_an_unknown_section_is_refused(content: Any) -> None:
    content["trian"] = {}
    assert "trian is not a known key; did you mean train?" in error_of(content)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "epochs", "12", "train.epochs is '12', expected a valid integer"),
        ("train", "epochs", 0, "train.epochs is 0, expected greater than 0"),
        ("train", "seed", True, "train.seed is True, expected a valid integer"),
        ("model", "size", "x", "model.size is 'x', expected 't', 's', 'm' or 'l'"),
        ("model", "input_size", 230, "model.input_size is 230, expected a multiple of 32"),
        ("register", "floor_ap", 2, "register.floor_ap is 2, expected less than or equal to 1"),
        ("data", "gate_fraction", float("nan"), "data.gate_fraction is nan, expected a finite"),
    ],
)
def test_a_wrong_type_or_an_impossible_value_is_shown(
    section: str, key: str, value: object, message: str, content: Any
) -> None:
    content[section][key] = value
    assert message in error_of(content)


def test_a_rule_between_keys_is_checked(content: Any) -> None:
    content["train"] |= {"micro_batch": 8, "global_batch": 20}
    assert error_of(content) == (
        "params.yaml: train: global_batch 20 is not a multiple of micro_batch 8"
    )


def test_a_missing_section_is_named(content: Any) -> None:
    del content["register"]
    assert error_of(content) == "params.yaml: register is missing"


def test_no_error_carries_a_link_to_pydantic(content: Any) -> None:
    content["train"]["epochs"] = "many"
    assert "pydantic" not in error_of(content)


def test_a_file_that_is_absent_broken_or_no_mapping_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="does not exist"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text("train: {epochs: [")
    with pytest.raises(ParamsError, match="is not YAML"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text("- train")
    with pytest.raises(ParamsError, match="expected sections"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text("data: 2026-01-01")
    with pytest.raises(ParamsError, match="date"):
        load_params(tmp_path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 4e-3")
    assert read_yaml(tmp_path / "a.yaml") == {"lr": 0.004}


def test_a_set_is_merged_once_and_not_with_itself(content: Any) -> None:
    aic = {"dataset": "aic", "sampling_factor": 0.3, "until_epoch": 579}
    content["data"]["merge"] = [aic, aic | {"dataset": "mpii"}]
    merged = validate_params(content, source="params.yaml").data.merge
    assert [other.dataset for other in merged] == ["aic", "mpii"]
    for repeated in ("aic", content["data"]["dataset"]):
        content["data"]["merge"] = [aic, aic | {"dataset": repeated}]
        with pytest.raises(ParamsError, match=f"{repeated} is in dataset and merge more than once"):
            validate_params(content, source="params.yaml")

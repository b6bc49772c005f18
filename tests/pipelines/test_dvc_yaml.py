"""dvc.yaml says what its stages are really made from."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import grimp
import pytest
from ruamel.yaml import YAML

from pipelines.params import read_yaml

NOT_SOURCES = (
    "pipelines.dvc_graph",
    "pipelines.faults",
    "pipelines.lineage",
    "pipelines.params",
    "pipelines.paths",
    "pipelines.process",
    "pipelines.stage_run",
    "pipelines.worded_errors",
    "pipelines.tracking",
)
"""They do not decide a result: an edit there must not retrain for days (DESIGN section 3)."""

STAGES = YAML(typ="safe").load(Path(__file__).parents[2] / "dvc.yaml")["stages"]
ORDER = "download convert train evaluate inspect export benchmark register"


@dataclass(frozen=True)
class Imports:
    """Who imports whom; a package that loads its names late names them for type checkers only."""

    executed: grimp.ImportGraph
    written: grimp.ImportGraph

    def sources(self, module: str) -> set[str]:
        """Modules that decide what `module` does: all it imports, step by step."""
        found: set[str] = set()
        waiting = [module]
        while waiting:
            here = waiting.pop()
            if here in found or any(f"{here}.".startswith(f"{name}.") for name in NOT_SOURCES):
                continue
            found.add(here)
            is_package = bool(self.written.find_children(here))
            graph = self.written if is_package else self.executed
            waiting += graph.find_modules_directly_imported_by(here)
        return found


@pytest.fixture(scope="module")
def imports() -> Imports:
    packages = ("rtmo", "pipelines")
    return Imports(
        executed=grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None),
        written=grimp.build_graph(*packages, cache_dir=None),
    )


def file_of(root: Path, module: str) -> PurePosixPath:
    path = PurePosixPath(*module.split("."))
    return path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")


def lists(definition: dict[str, Any], section: str) -> list[str]:
    entries = definition.get(section, [])
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_the_stages_are_those_of_the_design() -> None:
    assert list(STAGES) == ORDER.split()


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_is_supervised(stage: str) -> None:
    module = f"pipelines.stages.{'inspect_errors' if stage == 'inspect' else stage}"
    assert STAGES[stage]["cmd"] == f"exec python -m pipelines.process python -m {module}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_all_code_that_decides_the_result(
    stage: str, imports: Imports, repository: Path
) -> None:
    module = STAGES[stage]["cmd"].split()[-1]
    deps = [PurePosixPath(dep) for dep in lists(STAGES[stage], "deps")]
    files = {file_of(repository, source) for source in imports.sources(module)}
    missing = {file for file in files if file.name != "__init__.py"}
    missing = {file for file in missing if not any(file.is_relative_to(dep) for dep in deps)}
    assert sorted(map(str, missing)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_no_code_that_the_stage_does_not_use(
    stage: str, imports: Imports, repository: Path
) -> None:
    module = STAGES[stage]["cmd"].split()[-1]
    files = {file_of(repository, source) for source in imports.sources(module)}
    code = [dep for dep in lists(STAGES[stage], "deps") if dep.startswith(("rtmo", "pipelines"))]
    unused = [dep for dep in code if not any(file.is_relative_to(dep) for file in files)]
    assert unused == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_params_key_of_a_stage_exists(stage: str, repository: Path) -> None:
    for key in STAGES[stage]["params"]:
        value = read_yaml(repository / "params.yaml")
        for part in key.split("."):
            assert isinstance(value, dict)
            assert part in value, key
            value = value[part]


def test_the_hash_of_initial_weights_decides_the_training(repository: Path) -> None:
    """DVC cannot depend on a file that may not be there; its hash is among the params."""
    assert "train" in STAGES["train"]["params"]
    assert "init_weights_sha256" in read_yaml(repository / "params.yaml")["train"]


def test_no_stage_runs_always_and_what_a_host_measures_is_not_cached() -> None:
    for name, definition in STAGES.items():
        assert definition["deps"], name
        assert "always_changed" not in definition, name
    for name in ("benchmark", "register"):
        entries = [
            entry
            for section in ("outs", "metrics", "plots")
            for entry in STAGES[name].get(section, [])
        ]
        assert entries
        for entry in entries:
            (settings,) = entry.values()
            assert settings["cache"] is False, (name, entry)

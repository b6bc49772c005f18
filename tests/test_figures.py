"""Tables of measurements are what their raw logs say."""

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import raw_log, tables
from benchmarks.figures import LOGS, TABLES, problems, remade, rendered
from benchmarks.raw_log import RawLog

LOG = "2026-11-28-loader-speed.json"
BLOCK = f"<!-- figures: {LOG} -->\n<!-- end of figures -->\n"


@pytest.fixture
def log() -> RawLog:
    """A small one, as the benchmark writes it."""
    return RawLog(
        benchmark="loader_speed",
        date="2026-11-28",
        command="python -m benchmarks.loader_speed store",
        machine=raw_log.hardware(),
        versions={},
        load_before=0.25,
        load_after=1.5,
        settings={"pictures": 9, "side": 640, "batch": 32},
        samples={
            "batch_seconds": {
                "plain": [[0.64, 0.64], [0.32, 0.32], [0.96, 0.96]],
                "ours": [[0.16, 0.16], [0.32, 0.16], [0.08, 0.08]],
            },
            "step_ms": {"decode": [1.0, 3.0, 2.0]},
        },
    )


@pytest.fixture
def folder(tmp_path: Path, log: RawLog) -> Path:
    """A repository with one page that shows one log."""
    (tmp_path / "benchmarks/logs").mkdir(parents=True)
    (tmp_path / "benchmarks/logs" / LOG).write_text(log.model_dump_json())
    (tmp_path / "README.md").write_text("# Nothing measured\n")
    page = remade(f"# Loaders\n\n{BLOCK}", tmp_path / "benchmarks/logs")
    (tmp_path / "benchmarks/2026-11-28-loader-speed.md").write_text(page)
    return tmp_path


def wrong(folder: Path) -> list[str]:
    return problems(folder, folder / "benchmarks/logs")


def test_every_page_of_this_repository_agrees_with_its_raw_logs(repository: Path) -> None:
    assert problems(repository, LOGS) == []


def test_a_table_is_computed_from_the_samples(log: RawLog) -> None:
    text = rendered(log)
    assert "| plain | 20.0 | 20.0 | 50 | 1.00 |" in text
    assert "| ours | 5.0 | 5.0 | 200 | 4.00 |" in text
    assert "| decode | 2.00 |" in text
    assert "load 0.2 before, 1.5 after" in text
    assert "    python -m benchmarks.loader_speed store\n" in text


def test_a_changed_figure_on_a_page_is_found_and_made_again(folder: Path) -> None:
    assert wrong(folder) == []
    page = folder / "benchmarks/2026-11-28-loader-speed.md"
    right = page.read_text()
    page.write_text(right.replace("4.00", "5.00"))
    assert "disagrees with its raw log" in wrong(folder)[0]
    assert remade(page.read_text(), folder / "benchmarks/logs") == right


def test_a_changed_sample_in_a_log_is_found(folder: Path) -> None:
    log = folder / "benchmarks/logs" / LOG
    log.write_text(log.read_text().replace("0.96", "0.32"))
    assert "disagrees with its raw log" in wrong(folder)[0]


def test_a_log_without_a_page_and_a_page_without_a_log_are_found(folder: Path) -> None:
    page = folder / "benchmarks/2026-11-28-loader-speed.md"
    page.write_text("# Loaders\n\n| ours | 5.0 |\n")
    assert [problem.split()[0] for problem in wrong(folder)] == [
        "benchmarks/2026-11-28-loader-speed.md",
        "no",
    ]
    page.write_text(f"# Loaders\n\n{BLOCK.replace('2026', '2025')}")
    assert "not in benchmarks/logs" in wrong(folder)[0]
    page.write_text(f"# Loaders\n\n{BLOCK.splitlines()[0]}\n")
    assert "without its end" in wrong(folder)[0]


def test_a_second_log_of_a_day_does_not_replace_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        log = raw_log.begin("loader_speed", ("pydantic",)).end({"a": [1.5]}, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{log.date}-loader-speed-2.json", f"{log.date}-loader-speed.json"]
    assert {RawLog.model_validate_json(p.read_bytes()).benchmark for p in tmp_path.iterdir()} == {
        "loader_speed"
    }


def test_a_log_of_an_unknown_benchmark_is_refused(log: RawLog) -> None:
    with pytest.raises(ValueError, match="add it to TABLES"):
        rendered(log.model_copy(update={"benchmark": "loadr_speed"}))


SMALL = {
    "accumulation": (
        {"first": {"spread": [0.08], "deviation": [0.01, 0.02], "between": [0.5]}},
        {"side": 128},
        "| first | 8.0% | 1.50% | 50% |",
    ),
    "beside_rtmlib": (
        {
            "milliseconds": {"rtmlib": [2.0, 4.0, 6.0], "ours, square": [1.0, 2.0, 3.0]},
            "people": {"ours": 3, "theirs": 2, "matched": 2, "borderline": 1, "largest_px": 0.1},
        },
        {"model": "rtmo.onnx", "pictures": 3, "rtmlib": "0.0.16"},
        "| ours, square | 2.0 | 0.500 | 0.500 to 0.500 |",
    ),
    "cpu_runtimes": (
        {
            "milliseconds": {"onnxruntime fp32, raw graph alone": [10.0], "other": [5.0]},
            "people": {"other": 20},
        },
        {"size": "s", "threads": 2, "side": 640},
        "| other | 20 | 5.0 | 5.0 | 0.50 |",
    ),
    "dvc_status_scale": (
        {"few files: dvc status": [2.0, 1.0, 3.0]},
        {},
        "| few files: dvc status | 2.0 | 1.0 to 3.0 | 3 |",
    ),
    "evaluation_scale": (
        {"classify errors": [0.25]},
        {"pictures": 2693, "people": 11004, "detections": 25963},
        "| classify errors | 0.25 | | 1 |",
    ),
    "flow_overhead": (
        {
            "whole": {"`dvc repro`": [[1.0, 0.5], [3.0, 0.5]], "flow, running server": [[7, 5]]},
            "scheduled": [2.5, 2.25],
        },
        {},
        "| flow, running server | 7.0 (5.0) | 5.0 | 12 |",
    ),
    "gate_error_rates": (
        {
            "seeds_ap": [0.2, 0.3],
            "challengers": {
                "worse": {
                    "noise": 0.3,
                    "effect_ap": -0.02,
                    "half_widths_ap": [0.01, 0.02],
                    "verdicts": {"null (the default)": {"cannot tell": 1, "worse": 9}},
                }
            },
        },
        {"images": 500, "seed_shift": 0.04},
        "| worse | -0.0200 | 2 | 9 worse, 1 cannot tell |",
    ),
    "memory_growth": (
        {"mib": {"200": [300.0, 700.0, 750.0, 900.0], "2000": [306.0, 714.0, 800.0, 990.0]}},
        {},
        "Handed out, from step 200 to step 2000: +2.00%.",
    ),
    "model_speed": (
        {
            "matrix_gflops": 200.0,
            "rows": [
                {"what": "s forward", "variant": "float32", "seconds": [0.2], "gflop": 24.0}
                | {"error_px": 0.0}
            ],
        },
        {"threads": 2, "runs": 1},
        "| s forward | float32 | 200 | 120 | 0 px |",
    ),
    "serve_batching": (
        {"4 x 8": [[10.0, 100.0], [12.0, 90.0], [11.0, 95.0]]},
        {"model": "rtmo.onnx", "pictures": 32, "requests": 64},
        "| 4 | 8 | 10.0, 12.0, 11.0 | 95 |",
    ),
}


@pytest.mark.parametrize("benchmark", SMALL)
def test_each_benchmark_makes_a_table_of_its_samples(benchmark: str, log: RawLog) -> None:
    samples, settings, line = SMALL[benchmark]
    changed = {"benchmark": benchmark, "samples": samples, "settings": settings}
    assert line in rendered(log.model_copy(update=changed)).splitlines()


def test_every_benchmark_with_a_table_is_a_script(repository: Path) -> None:
    assert [name for name in TABLES if not (repository / f"benchmarks/{name}.py").exists()] == []


@pytest.mark.parametrize("module", [raw_log, tables])
def test_the_examples_of_the_log_and_the_tables_are_right(module: ModuleType) -> None:
    examples = [e for found in doctest.DocTestFinder().find(module) for e in found.examples]
    assert examples
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=len(examples))

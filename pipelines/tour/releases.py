"""Steps about the registry."""

from __future__ import annotations

import json
from typing import Any

from pipelines.params import load_params
from pipelines.registry.receipt import Receipt, read_receipt
from pipelines.tour.copies import Copies, Copy, set_params
from pipelines.tour.steps import NotHereError, PromiseError, require
from rtmo.store import Store

STORE = "MLFLOW_TRACKING_URI=sqlite:///mlflow.db"
ASK = (
    "import mlflow, sys; "
    "version = mlflow.MlflowClient().get_model_version_by_alias(sys.argv[1], sys.argv[2]); "
    "print(version.version, version.tags['content_hash'])"
)
LOAD = (
    "import mlflow, sys; "
    "model = mlflow.pyfunc.load_model(f'models:/{sys.argv[1]}@{sys.argv[2]}'); "
    "print(model.metadata.get_output_schema().input_names())"
)
WORSE: dict[str, Any] = {
    "train": {
        "init_weights": None,
        "init_weights_sha256": None,
        "epochs": 1,
        "processes": 1,
        "optimizer": {"lr": 1e-4, "cosines": []},
        "phases": [{"first_epoch": 0, "pipeline": "letterbox", "input_size": 64}],
    },
    "export": {"parity_images": 16, "timing_runs": 3},
    "benchmark": {"runs": 10},
}
"""From nothing, one epoch at a low rate: it finds nobody. At the usual rate it finds people of
1e26 px, which no runtime has like another. Fewer pictures to measure on save time."""
LARGE_BATCH = 64
"""Pictures of one of its steps: few steps take less time. Of a small dataset at most half the
pictures, for those without people are left out."""
ROOM_BELOW = 0.1
"""AP of a champion under which the gate may be unable to tell that an untrained model is worse."""
MAX_TRAINING_PICTURES = 20_000


def plain_client_finds_the_champion(copies: Copies) -> str:
    """Ask and load with mlflow alone, as an application does."""
    finished = copies.finished
    alias = _alias(finished)
    name = _receipt(finished).model
    number, content = finished.run(f'{STORE} python -c "{ASK}" {name} {alias}').split()
    outputs = finished.run(f'{STORE} python -c "{LOAD}" {name} {alias}').strip()
    return f"models:/{name}@{alias} is version {number} (content {content[:12]}), answers {outputs}"


def lost_store_comes_back(copies: Copies) -> str:
    """Delete the store, sync, compare the content hash."""
    finished = copies.finished
    receipt = _receipt(finished)
    finished.run("rm -r mlflow.db mlartifacts")
    finished.run("rtmo-pipeline sync")
    number, content = _who_is(finished, _alias(finished))
    require(
        content == receipt.content_hash,
        f"the receipt says {receipt.content_hash[:12]}, the new store {content[:12]}",
    )
    again = finished.run("rtmo-pipeline sync")
    require("restored" not in again, f"a second sync did something: {again.strip()}")
    return (
        f"{_alias(finished)} is version {number} of the new store, content {content[:12]} as before"
    )


def worse_challenger_is_refused(copies: Copies) -> str:
    """Train a worse model, let the gate judge; promote it by hand all the same, take it back."""
    finished = copies.finished
    batch = min(LARGE_BATCH, max(_pictures_of_short_epoch(finished) // 2, 1))
    changes = WORSE | {"train": WORSE["train"] | {"micro_batch": batch, "global_batch": batch}}
    champion = _make_sure_of_a_champion(finished)
    former_ap = _gate_ap(finished)
    finished.note("edit params.yaml: " + ", ".join(_edits(changes)))
    set_params(finished.folder, changes)
    finished.run("dvc repro")
    receipt = _receipt(finished)
    judged = f"AP {_gate_ap(finished):.3f} after {former_ap:.3f}, verdict `{receipt.verdict}`"
    require(receipt.content_hash != champion, "the training made the same model")
    require(not receipt.is_champion, f"it became champion: {receipt.words}")
    require(receipt.verdict == "worse" or former_ap < ROOM_BELOW, f"{judged}: {receipt.words}")
    require(_who_is(finished, "champion")[1] == champion, "the champion is another one now")
    finished.run(f"rtmo-pipeline promote {receipt.version} --why 'the tour wants to see it'")
    require(_who_is(finished, "champion")[1] == receipt.content_hash, "it was not promoted")
    finished.run("rtmo-pipeline rollback --why 'the tour has seen it'")
    require(_who_is(finished, "champion")[1] == champion, "the former champion is not back")
    moves = finished.run("rtmo-pipeline history").splitlines()
    require("rollback" in moves[-1], f"the last move in the history is {moves[-1]}")
    seen = f"{judged}; promoted by hand, rolled back; {len(moves)} moves on record"
    if receipt.verdict != "worse":
        raise NotHereError(f"below an AP of {ROOM_BELOW} there is no room for a worse one: {seen}")
    return seen


def _gate_ap(copy: Copy) -> float:
    """AP of the model in this copy on the gate split."""
    metrics = json.loads((copy.paths.report("evaluate") / "gate_metrics.json").read_text())
    return float(metrics["AP"])


def _pictures_of_short_epoch(copy: Copy) -> int:
    dataset = load_params(copy.folder).data.dataset
    pictures = len(Store.open(copy.paths.processed(dataset) / "train"))
    if pictures > MAX_TRAINING_PICTURES:
        raise NotHereError(f"one epoch of {dataset} ({pictures} pictures) is too long for a tour")
    return pictures


def _make_sure_of_a_champion(copy: Copy) -> str:
    """Content hash of the champion; where this checkout made none, its version is promoted."""
    receipt = _receipt(copy)
    if _alias(copy) != "champion":
        number = _who_is(copy, _alias(copy))[0]
        copy.run(f"rtmo-pipeline promote {number} --why 'the tour needs a champion'")
    return receipt.content_hash


def _who_is(copy: Copy, alias: str) -> tuple[str, str]:
    """Number and content hash of a version, as another process reads it from the store."""
    number, content = copy.run(f'{STORE} python -c "{ASK}" {_receipt(copy).model} {alias}').split()
    return number, content


def _receipt(copy: Copy) -> Receipt:
    receipt = read_receipt(copy.paths)
    if receipt is None:
        raise PromiseError("reports/register/receipt.json is not there")
    return receipt


def _alias(copy: Copy) -> str:
    alias = _receipt(copy).alias
    if alias is None:
        raise NotHereError("the last `dvc repro` here registered a model without an alias")
    return alias


def _edits(changes: dict[str, Any], before: str = "") -> list[str]:
    """Changes of params as `section.key: value`."""
    lines = []
    for key, value in changes.items():
        name = f"{before}{key}"
        lines += (
            _edits(value, f"{name}.")
            if isinstance(value, dict)
            else [f"{name}: {json.dumps(value)}"]
        )
    return lines

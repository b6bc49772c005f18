"""Steps about data, DVC and the scheduled flow."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from itertools import islice

import psutil

from pipelines.params import load_params
from pipelines.tour.copies import Copies, Copy, wait_until
from pipelines.tour.steps import NotHereError, PromiseError, require
from rtmo.formats.coco import write_coco
from rtmo.formats.doctor import FACE, TORSO
from rtmo.formats.records import PersonRecord
from rtmo.skeleton import Skeleton
from rtmo.store import Store

TRAINING = ["-m", "pipelines.stages.train"]
PATIENCE_S = 600.0
RETRAIN = (
    'python -c "from pipelines.flows.retrain import retrain; '
    "print(retrain(target='train').words)\""
)
WEIGHTS = "models/train/weights.safetensors"
PICTURES_TO_EXCHANGE = 100


def resumes_after_a_kill(copies: Copies) -> str:
    """Kill a training that has a checkpoint; start it again; compare with one left alone."""
    undisturbed = copies.trained
    killed = copies.tiny("killed")
    with killed.started("dvc repro train") as dvc:
        wait_until(lambda: _last_step(killed) or dvc.poll() is not None, PATIENCE_S, "a checkpoint")
        victim = _training_below(dvc.pid)
        if victim is None:
            raise PromiseError("the training was over before it could be killed")
        victim.kill()
        killed.note(f"kill -9 {victim.pid}  # python {' '.join(TRAINING)}")
        require(dvc.wait(PATIENCE_S) != 0, "`dvc repro` says that all is well after the kill")
    step = _last_step(killed)
    said = killed.run("dvc repro train 2>&1")
    require(f"continuing from step {step}" in said, f"it did not continue from step {step}")
    same = _weights(killed) == _weights(undisturbed)
    require(same, "the weights differ from those of an undisturbed training")
    return f"killed at step {step}, continued there, the same weights to the last bit"


def one_parameter_concerns_its_stages(copies: Copies) -> str:
    """Change one number that only `inspect` reads, and ask DVC."""
    finished = copies.finished
    stale = json.loads(finished.run("dvc status --json"))
    require(not stale, f"before any change DVC calls stale: {', '.join(stale)}")
    finished.run("sed -i -E 's/(worst_people:) [0-9]+/\\1 3/' params.yaml")
    stale = json.loads(finished.run("dvc status --json"))
    finished.run("git checkout -q params.yaml")
    require(list(stale) == ["inspect"], f"stale: {', '.join(stale) or 'nothing'}")
    return "inspect.worst_people makes `inspect` stale, and nothing else"


def doctor_finds_exchanged_labels(copies: Copies) -> str:
    """Exchange left and right of the trunk in a copy of the labels, and show both to the doctor."""
    copy = copies.tiny("labels")
    store = Store.open(copies.checkout.processed(_dataset(copies)) / "val")
    counts = {}
    for name, does_exchange in (("as-they-are", False), ("exchanged", True)):
        _write_labels(copy, store, name, exchanged=does_exchange)
        said = copy.run(f"rtmo-pipeline init --data {name} --name mine --licence ours:yes --json")
        counts[name] = json.loads(said)["findings"].get("left_right_disagree", 0)
    before, after = counts.values()
    require(after > before, f"left_right_disagree: {before} before the exchange, {after} after it")
    return f"left_right_disagree: {before} people as labelled, {after} after the exchange"


def retrain_has_nothing_to_do_and_can_be_cancelled(copies: Copies) -> str:
    """Run the scheduled flow where nothing changed, then where something did, and interrupt it."""
    copy = copies.trained
    copy.run(f"git init -q --bare -b main {copies.scratch / 'remote.git'}")
    copy.run(f"git remote add origin {copies.scratch / 'remote.git'}")
    copy.run("git add dvc.lock && git commit -qm 'The first training' && git push -q origin main")
    said = copy.run(RETRAIN)
    require("nothing to do" in said, f"with nothing changed it said: {said.strip()}")

    copy.run("sed -i -E 's/( seed:) 0/\\1 1/' params.yaml")
    copy.run("git commit -qam 'Another seed' && git push -q origin main")
    with copy.started(RETRAIN) as flow:
        wait_until(
            lambda: _training_below(flow.pid) or flow.poll() is not None, PATIENCE_S, "the training"
        )
        if _training_below(flow.pid) is None:
            raise PromiseError("the flow ended before it could be cancelled")
        below = psutil.Process(flow.pid).children(recursive=True)
        os.killpg(flow.pid, signal.SIGINT)
        copy.note("Ctrl-C")
        flow.wait(PATIENCE_S)
    _gone, left = psutil.wait_procs(below, timeout=60)
    require(not left, f"still running: {[process.pid for process in left]}")
    branches = copy.run("git ls-remote --heads origin").split()[1::2]
    require(branches == ["refs/heads/main"], f"the remote has {branches}")
    changed = copy.run("git status --porcelain")
    require(not changed, f"in the checkout changed: {changed}")
    return f"nothing to do; then cancelled: {len(below)} processes gone, no branch, no change"


def _last_step(copy: Copy) -> int:
    """Of the newest checkpoint; there is one of step 0, after the first validation."""
    files = copy.paths.runs.glob("checkpoints/*/step-*.pt")
    return max((int(file.stem.split("-")[1]) for file in files), default=0)


def _training_below(process: int) -> psutil.Process | None:
    """The training among the descendants of a process."""
    try:
        for child in psutil.Process(process).children(recursive=True):
            if child.cmdline()[1:3] == TRAINING:
                return child
    except psutil.NoSuchProcess:
        pass
    return None


def _weights(copy: Copy) -> bytes:
    return (copy.folder / WEIGHTS).read_bytes()


def _dataset(copies: Copies) -> str:
    return load_params(copies.checkout.root).data.dataset


def _write_labels(copy: Copy, store: Store, name: str, *, exchanged: bool) -> None:
    """Pictures and COCO labels as an annotation tool gives them out."""
    folder = copy.folder / name
    (folder / "images").mkdir(parents=True)
    records = list(islice(store.records(), PICTURES_TO_EXCHANGE))
    for index, record in enumerate(records):
        (folder / "images" / record.file_name).write_bytes(store.image_bytes(index).tobytes())
    if exchanged:
        pairs = _trunk_pairs(store.skeleton)
        records = [
            replace(r, people=tuple(_exchange(person, pairs) for person in r.people))
            for r in records
        ]
    (folder / "labels.json").write_text(json.dumps(write_coco(records, store.skeleton)))


def _trunk_pairs(skeleton: Skeleton) -> list[tuple[int, int]]:
    """Flip pairs of shoulders and hips; the doctor compares them with eyes and ears."""
    names = skeleton.keypoints
    face, trunk = (
        [pair for pair in skeleton.flip_pairs if names[pair[0]].endswith(parts)]
        for parts in (FACE, TORSO)
    )
    if not face or not trunk:
        raise NotHereError(f"skeleton {skeleton.name} has not both a face and a trunk to compare")
    return trunk


def _exchange(person: PersonRecord, pairs: list[tuple[int, int]]) -> PersonRecord:
    numbers = list(person.keypoints)
    for left, right in pairs:
        one, other = slice(3 * left, 3 * left + 3), slice(3 * right, 3 * right + 3)
        numbers[one], numbers[other] = numbers[other], numbers[one]
    return replace(person, keypoints=tuple(numbers))

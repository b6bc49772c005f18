"""Registration: the workspace's model becomes a version, the gate judges it, aliases follow."""

from __future__ import annotations

import getpass
import math
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipelines.params import Params
from pipelines.paths import Paths
from pipelines.registry.aliases import challenge, promote, release_lock, settle
from pipelines.registry.candidate import Candidate
from pipelines.registry.card import Card
from pipelines.registry.comparison import BOOTSTRAP_SEED, MIN_IMAGES, GateData, compare
from pipelines.registry.conditions import broken_conditions, rates_on
from pipelines.registry.figures import figures_of
from pipelines.registry.gate import Comparison, Evidence, Verdict, decide
from pipelines.registry.ledger import last_ids, ledger_file, read_ledger
from pipelines.registry.promoters import GATE, may_promote
from pipelines.registry.receipt import VERDICT_TAGS, Champion, Receipt, now
from pipelines.tracking.figures import log_figures
from pipelines.tracking.moves import Aliases, read_aliases
from pipelines.tracking.packaging import save_package, write_card
from pipelines.tracking.runs import DATA_DIGEST_TAG, DATASET_TAG, restore_run
from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import (
    Version,
    all_versions,
    attach_json,
    attached_json,
    create_version,
    describe_version,
    find_complete_version,
    get_version,
)
from rtmo.evaluation.bootstrap import Interval, metric_intervals

GATE_DATA_TAG = "gate.data"
"""DVC's md5 of the gate split that a version was registered with."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered, by which rules, for whom."""

    paths: Paths
    params: Params
    candidate: Candidate
    gate: GateData
    lineage: Mapping[str, str]
    """`lineage.lineage` and the data digest; tags of run and version."""
    by: str
    experiment: str | None
    """DVC experiment that is running; inside one no alias moves."""

    @property
    def model(self) -> str:
        """Name of the registered model."""
        return self.params.registration.name


def register(tracking: Tracking, registration: Registration) -> Receipt:
    """Register, judge, and move aliases accordingly; doing it again changes nothing.

    Releases on one machine wait for each other. With another host that shares the store, the later
    one finds the champion changed and fails; run it again.

    Raises:
        BrokenPackageError: if the model does not work once packaged; nothing is registered then.
        ReleaseError: if another host moved the champion meanwhile.
    """
    name = registration.model
    with release_lock(registration.paths):
        version = register_version(tracking, registration)
        champion = current_aliases(tracking, registration).champion
        verdict = judge(tracking, registration, version, champion)
        if verdict.kind == "same":  # what made it champion stays on it
            said = {name: version.tags[name] for name in VERDICT_TAGS if name in version.tags}
        else:
            said = dict(zip(VERDICT_TAGS, (verdict.kind, verdict.words), strict=True))
            describe_version(tracking, version, {registration.gate.look_tag: verdict.kind} | said)
        if registration.experiment is None:
            move_aliases(tracking, registration, version, verdict, champion)
        version = replace(version, tags={**version.tags, **said})
        return make_receipt(tracking, registration, version, verdict, read_aliases(tracking, name))


def register_version(tracking: Tracking, registration: Registration) -> Version:
    """The version of the candidate with its run, made if the store lacks either."""
    candidate = registration.candidate
    tags = {**registration.lineage, DATASET_TAG: str(candidate.card["dataset"])}
    settings = registration.params.model_dump(mode="json", by_alias=True)
    run = restore_run(
        tracking.client,
        tracking.experiment_id,
        candidate.stage_hash,
        settings,
        tags,
        candidate.curves,
    )
    version = find_complete_version(tracking, registration.model, candidate.content_hash)
    if version is None:
        version = _package_and_create(tracking, registration, run.info.run_id, run.data.tags)
    if attached_json(tracking, version, registration.gate.artifact) is None:
        attach_json(tracking, version, registration.gate.artifact, candidate.gate_detections)
    data_digest = registration.lineage.get(DATA_DIGEST_TAG, "")
    rates = rates_on(registration.gate.store, candidate.gate_detections)
    figures = figures_of(candidate, rates, data_digest, registration.gate.digest)
    log_figures(tracking, version, figures, run_id=run.info.run_id)
    return version


def judge(
    tracking: Tracking, registration: Registration, version: Version, champion: int | None
) -> Verdict:
    """Gather the evidence and ask the gate."""
    candidate, rules = registration.candidate, registration.params.registration
    evidence = Evidence(
        gate_ap=gate_interval(registration),
        looks=count_looks(tracking, registration, version),
        parity_failures=tuple(
            f"{name}: {problem}"
            for name, file in candidate.manifest.files.items()
            for problem in file.over_budget(registration.params.export)
        ),
        unsigned_licences=tuple(
            licence.name
            for licence in candidate.licences
            if licence.commercial_use != "yes" and licence.name not in rules.allow_licences
        ),
        comparison=_compare_with(tracking, registration, version, champion),
        broken_conditions=_broken_conditions(tracking, registration, champion),
    )
    return decide(rules, evidence)


def _broken_conditions(
    tracking: Tracking, registration: Registration, champion: int | None
) -> tuple[str, ...]:
    """Conditions on error rates that the candidate does not meet.

    To be called after the comparison, which leaves the champion's detections with the champion.
    """
    conditions, gate = registration.params.registration.conditions, registration.gate
    if champion is None or not conditions:
        return ()
    version = get_version(tracking, registration.model, champion)
    reference = attached_json(tracking, version, gate.artifact)
    return tuple(
        broken_conditions(
            conditions,
            rates_on(gate.store, registration.candidate.gate_detections),
            rates_on(gate.store, reference) if reference is not None else {},
        )
    )


def count_looks(tracking: Tracking, registration: Registration, version: Version) -> int:
    """Models judged on this gate data, this one included; the same model again is no new look."""
    tag = registration.gate.look_tag
    others = all_versions(tracking, registration.model)
    return 1 + sum(tag in other.tags and other.number != version.number for other in others)


def gate_interval(registration: Registration) -> Interval:
    """AP on the gate split, and how sure that is; a point where the split cannot be resampled."""
    ap = registration.candidate.gate_metrics["AP"]
    store, rules = registration.gate.store, registration.params.registration
    if len(store) < MIN_IMAGES:
        return Interval(ap, ap, ap)
    found = metric_intervals(
        store.to_coco(),
        registration.candidate.gate_detections,
        skeleton=store.skeleton,
        protocol=store.meta.protocol,
        seed=BOOTSTRAP_SEED,
        samples=rules.bootstrap_samples,
        confidence=rules.confidence,
    )["AP"]
    return found if math.isfinite(found.low) else Interval(ap, ap, ap)


def _compare_with(
    tracking: Tracking, registration: Registration, version: Version, champion: int | None
) -> Comparison | Literal["no champion", "is the champion"]:
    if champion is None:
        return "no champion"
    if champion == version.number:
        return "is the champion"
    return compare(
        tracking,
        get_version(tracking, registration.model, champion),
        registration.candidate.onnx,
        registration.candidate.gate_detections,
        registration.gate,
        registration.params,
    )


def current_aliases(tracking: Tracking, registration: Registration) -> Aliases:
    """Where the aliases are; outside of experiments after finishing a move that was cut short."""
    if registration.experiment is not None:
        return read_aliases(tracking, registration.model)
    return settle(tracking, registration.model)


def move_aliases(
    tracking: Tracking,
    registration: Registration,
    version: Version,
    verdict: Verdict,
    champion: int | None,
) -> None:
    """Carry the verdict out, which was made against `champion`."""
    who_and_why = {"by": registration.by, "why": f"{verdict.kind}: {verdict.words}"}
    if verdict.promotes and may_promote(registration.params.registration, GATE):
        promote(tracking, registration.model, version.number, expected=champion, **who_and_why)
    else:
        challenge(tracking, registration.model, version.number, **who_and_why)


def make_receipt(
    tracking: Tracking,
    registration: Registration,
    version: Version,
    verdict: Verdict,
    aliases: Aliases,
) -> Receipt:
    """What happened, for the workspace."""
    champion = None
    if aliases.champion is not None:
        found = get_version(tracking, registration.model, aliases.champion)
        champion = Champion(
            version=found.number,
            content_hash=found.content_hash,
            git_commit=found.tags.get("git.commit", ""),
            stage_hash=found.tags.get("stage_hash", ""),
        )
    return Receipt(
        model=registration.model,
        version=version.number,
        content_hash=version.content_hash,
        stage_hash=registration.candidate.stage_hash,
        verdict=verdict.kind,
        words=verdict.words,
        champion=champion,
        is_challenger=aliases.challenger == version.number,
        by=registration.by,
        at=now(),
        gate_may_promote=may_promote(registration.params.registration, GATE),
        experiment=registration.experiment,
        verdict_tags={name: version.tags[name] for name in VERDICT_TAGS if name in version.tags},
        ledger=last_ids(read_ledger(ledger_file(registration.paths, registration.model))),
        lineage={name: version.tags[name] for name in registration.lineage if name in version.tags},
    )


def this_person() -> str:
    """User and host, for the history."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def running_experiment() -> str | None:
    """Name of the DVC experiment this process runs in; None outside of one."""
    return os.environ.get("DVC_EXP_NAME") or None


def _package_and_create(
    tracking: Tracking, registration: Registration, run_id: str, run_tags: Mapping[str, str]
) -> Version:
    candidate = registration.candidate
    # Where the model was trained, which need not be where it is registered.
    lineage = {name: run_tags[name] for name in registration.lineage}
    lineage[GATE_DATA_TAG] = registration.gate.digest
    card = Card(candidate, lineage)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model"
        save_package(package, candidate.onnx, {"content_hash": candidate.content_hash})
        write_card(package, card.content(), card.markdown())
        return create_version(
            tracking,
            registration.model,
            package,
            content_hash=candidate.content_hash,
            run_id=run_id,
            tags=card.tags(),
        )

"""Finding registered models: by alias, version, data version, commit, or what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry.figures import LATENCY
from pipelines.tracking.figures import Figure, all_figures
from pipelines.tracking.runs import DATA_DIGEST_TAG
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import Version, aliases_by_version, all_versions

FORM = "[best METRIC] [with METRIC above|below NUMBER [and ...]]"


class QuestionError(ValueError):
    """A question about models that cannot be answered; the message gives the form."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A registered version and what one chooses by."""

    version: int
    uri: str
    """What MLflow's clients load."""
    aliases: tuple[str, ...]
    verdict: str
    """Of the gate; empty if it was not asked."""
    data_version: str
    """Digest of all splits it was made with."""
    commit: str
    """Of the code; empty outside git."""
    stage_hash: str
    """Of the training."""
    content_hash: str
    """Of the model files."""
    hardware: str
    """What the latency was measured on."""
    figures: tuple[Figure, ...]
    """`val.*` and `gate.*` metrics, `latency_*` in milliseconds, in order of measurement."""

    @property
    def latest(self) -> dict[str, float]:
        """Of each figure the value measured last."""
        return {figure.name: figure.value for figure in self.figures}


@dataclass(frozen=True, slots=True)
class Condition:
    """A limit that a figure must keep."""

    metric: str
    relation: str
    """`above` or `below`."""
    limit: float

    def holds(self, value: float) -> bool:
        """Whether `value` keeps it."""
        return value > self.limit if self.relation == "above" else value < self.limit


@dataclass(frozen=True, slots=True)
class Question:
    """A parsed `FORM`."""

    best: str | None
    """Metric to rank by; None asks for every model that keeps the conditions."""
    conditions: tuple[Condition, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that it names."""
        ranked = () if self.best is None else (self.best,)
        return (*ranked, *(condition.metric for condition in self.conditions))


def find_models(
    paths: Paths,
    question: str = "",
    *,
    alias: str | None = None,
    version: int | None = None,
    data_version: str | None = None,
    commit: str | None = None,
) -> tuple[FoundModel, ...]:
    """Registered models that fit everything that is given, newest first.

    Args:
        paths: decides which store is asked.
        question: as `best AP_hard with latency_p50_ms below 5`; a question for the best has one
            answer at most. A metric without `val.` is that of the gate split.
        alias: champion, challenger, previous, or one of your own.
        version: its number.
        data_version: the first characters of the data digest are enough.
        commit: likewise.

    Figures are compared only where they were measured on the same data, latencies on the same
    hardware: as those of the newest of the models. A model without such a figure is left out.

    Raises:
        QuestionError: if the question is not of that form, or no model has a figure of that name.
        StoreUnavailableError: if the store cannot be used.
    """
    tracking = open_tracking(paths)
    name = load_params(paths.root).registration.name
    figures = all_figures(tracking)
    versions = all_versions(tracking, name)
    aliases = aliases_by_version(tracking, name) if versions else {}
    everything = [
        _found(found, aliases.get(found.number, ()), figures.get(found.model_id, ()))
        for found in reversed(versions)
    ]
    fitting = [
        model
        for model in everything
        if (alias is None or alias in model.aliases)
        and (version is None or version == model.version)
        and model.data_version.startswith(data_version or "")
        and model.commit.startswith(commit or "")
    ]
    return answer(parse(question), fitting)


def parse(text: str) -> Question:
    """Read a question.

    Example:
        >>> parse("best AP_hard with latency_p50_ms below 5")
        Question(best='gate.AP_hard', conditions=(Condition(metric='latency_p50_ms',
        relation='below', limit=5.0),))

    Raises:
        QuestionError: if it is not of the form.
    """
    words = text.split()
    best = None
    if words[:1] == ["best"]:
        if len(words) == 1:
            raise QuestionError(f"`{text}` names no metric; ask {FORM}")
        best, words = _full_name(words[1]), words[2:]
    if words[:1] == ["with"]:
        words = words[1:] or ["with"]
    return Question(best, tuple(_conditions(words, text)))


def _conditions(words: Sequence[str], text: str) -> list[Condition]:
    found = []
    for start in range(0, len(words), 4):
        metric, relation, limit, *joint = (*words[start : start + 4], "", "")[:4]
        is_last = start + 4 >= len(words)
        if relation not in ("above", "below") or (joint == ["and"]) == is_last:
            raise QuestionError(f"cannot read `{' '.join(words[start:])}` in `{text}`; ask {FORM}")
        try:
            found.append(Condition(_full_name(metric), relation, float(limit)))
        except ValueError:
            raise QuestionError(f"{limit!r} in `{text}` is no number; ask {FORM}") from None
    return found


def answer(question: Question, models: Sequence[FoundModel]) -> tuple[FoundModel, ...]:
    """Which of the models, given newest first, the question asks for.

    Raises:
        QuestionError: if no model has a figure of the name.
    """
    values = {name: _comparable(name, models) for name in question.metrics}
    kept = [
        model
        for model in models
        if all(model.version in values[name] for name in question.metrics)
        and all(
            condition.holds(values[condition.metric][model.version])
            for condition in question.conditions
        )
    ]
    if question.best is None or not kept:
        return tuple(kept)
    figures = values[question.best]
    sign = 1 if question.best.startswith(LATENCY) else -1
    return (min(kept, key=lambda model: (sign * figures[model.version], model.version)),)


def _comparable(name: str, models: Sequence[FoundModel]) -> Mapping[int, float]:
    """Version -> figure, where measured under the conditions of the newest model that has it."""
    measured = [
        (model.version, figure.value, (figure.digest, _hardware(name, model)))
        for model in models
        for figure in reversed(model.figures)  # the latest first
        if figure.name == name
    ]
    if not measured:
        if not models:
            return {}
        known = sorted({figure.name for model in models for figure in model.figures})
        raise QuestionError(f"no model has a figure {name!r}; there are {', '.join(known)}")
    _, _, newest = measured[0]
    return {version: value for version, value, conditions in measured if conditions == newest}


def _hardware(name: str, model: FoundModel) -> str:
    return model.hardware if name.startswith(LATENCY) else ""


def _full_name(metric: str) -> str:
    """A metric without a split is that of the gate.

    Example:
        >>> _full_name("AP_hard"), _full_name("val.AP"), _full_name("latency_p99_ms")
        ('gate.AP_hard', 'val.AP', 'latency_p99_ms')
    """
    return metric if "." in metric or metric.startswith(LATENCY) else f"gate.{metric}"


def _found(version: Version, aliases: tuple[str, ...], figures: tuple[Figure, ...]) -> FoundModel:
    tags = version.tags
    return FoundModel(
        version=version.number,
        uri=f"models:/{version.name}/{version.number}",
        aliases=aliases,
        verdict=tags.get("verdict", ""),
        data_version=tags.get(DATA_DIGEST_TAG, ""),
        commit=tags.get("git.commit", ""),
        stage_hash=tags.get("stage_hash", ""),
        content_hash=version.content_hash,
        hardware=tags.get("latency.hardware", ""),
        figures=figures,
    )

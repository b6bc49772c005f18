"""A team's own conditions on error rates: params `register.conditions`, on the gate split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.params import RateCondition
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.taxonomy import classify
from rtmo.store import Store


def broken_conditions(
    conditions: Sequence[RateCondition],
    challenger: Mapping[str, float],
    champion: Mapping[str, float],
) -> Iterator[str]:
    """The conditions that the challenger does not meet, each in words.

    A rate that one of the two does not have (nobody is in a crowd, nothing was found) cannot be
    told, and what cannot be told does not pass.

    Example:
        >>> condition = RateCondition(metric="swap_rate_crowded", max_increase=0.01)
        >>> list(broken_conditions([condition], {"swap_rate_crowded": 0.05},
        ...                        {"swap_rate_crowded": 0.02}))
        ['swap_rate_crowded rises from 0.0200 to 0.0500, allowed +0.0100']
    """
    for condition in conditions:
        name = condition.metric
        if name not in challenger or name not in champion:
            who = "the challenger" if name not in challenger else "the champion"
            yield f"{name} cannot be compared: {who} gives nothing to measure it on"
        elif challenger[name] > champion[name] + condition.max_increase:
            yield (
                f"{name} rises from {champion[name]:.4f} to {challenger[name]:.4f}, "
                f"allowed +{condition.max_increase:.4f}"
            )


def rates_on(store: Store, detections: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Error rates of detections on a split; none where nobody in it can be scored."""
    if not len(store) or not store.column("num_keypoints").any():
        return {}
    truth = read_ground_truth(store.to_coco(), store.skeleton, store.meta.protocol)
    found = read_detections(detections, truth, store.skeleton)
    return error_rates(truth, classify(truth, found, store.skeleton))

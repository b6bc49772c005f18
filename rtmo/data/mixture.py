"""Which picture each sample of an epoch shows, when several stores are trained on together.

Source: SPEC section 5.5 (sampling factors); mmpose CombinedDataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rtmo.data.randomness import Purpose, generator
from rtmo.store import Store


@dataclass(frozen=True, slots=True)
class MergedStore:
    """One more store to train on; its skeleton is that of the main store."""

    store: Store
    sampling_factor: float
    """Fraction of its pictures shown in one epoch, in (0, 1]."""
    until_epoch: int
    """First epoch without it."""


class Place(NamedTuple):
    """One picture."""

    store: Store
    position: int
    """In the store."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A store's share of an epoch."""

    store: Store
    pictures: np.ndarray
    """Positions of the pictures with annotations."""
    num_samples: int
    """Samples per epoch."""
    until_epoch: int | None
    """First epoch without it; None for the main store, which takes part in every one."""


class Mixture:
    """The pictures of a main store, and in the epochs that want them those of merged ones.

    Samples are numbered through the stores in order. A merged store with n pictures and factor f
    has m = round(f n) samples (at least one). Sample i shows picture
    round(i gap + U(0, 1) gap - 0.5) with gap = (n - 1e-4) / m: one of the i-th stretch of the
    store, another one every epoch. The draw is a function of (seed, epoch, sample): a sample that
    is asked for twice in an epoch, as itself and for somebody's mosaic, shows the same picture.
    """

    def __init__(self, store: Store, merged: Sequence[MergedStore], seed: int) -> None:
        """Look for the pictures with annotations; others are left out, as in the reference.

        Raises:
            ValueError: if a store has no person or another skeleton than the main one.
        """
        pictures = _annotated_pictures(store)
        self._members = [_Member(store, pictures, len(pictures), until_epoch=None)]
        for other in merged:
            if other.store.skeleton != store.skeleton:
                raise ValueError(
                    f"{other.store.folder} has skeleton {other.store.skeleton.name!r}, "
                    f"{store.folder} has {store.skeleton.name!r}; the convert stage maps merged "
                    "sets to the main one's, run it again"
                )
            pictures = _annotated_pictures(other.store)
            num_samples = max(round(other.sampling_factor * len(pictures)), 1)
            self._members.append(
                _Member(other.store, pictures, num_samples, other.until_epoch),
            )
        self._seed = seed

    def num_samples(self, epoch: int) -> int:
        """Samples of an epoch (0-based)."""
        return sum(member.num_samples for member in self._present(epoch))

    def place(self, epoch: int, index: int) -> Place:
        """What sample `index` of an epoch shows.

        Raises:
            IndexError: if the epoch has no such sample.
        """
        first = 0
        for member in self._present(epoch):
            if index < first + member.num_samples:
                picture = self._draw(member, epoch, index, index - first)
                return Place(member.store, int(member.pictures[picture]))
            first += member.num_samples
        raise IndexError(f"sample {index} of epoch {epoch}, which has {first}")

    def _present(self, epoch: int) -> list[_Member]:
        return [
            member
            for member in self._members
            if member.until_epoch is None or epoch < member.until_epoch
        ]

    def _draw(self, member: _Member, epoch: int, index: int, own_index: int) -> int:
        if member.num_samples == len(member.pictures):
            return own_index
        gap = (len(member.pictures) - 1e-4) / member.num_samples
        share = generator(Purpose.PICTURE, self._seed, epoch, index).random()
        return round(own_index * gap + share * gap - 0.5)


def _annotated_pictures(store: Store) -> np.ndarray:
    pictures = np.flatnonzero(store.people_per_image)
    if not len(pictures):
        raise ValueError(
            f"{store.folder} has {len(store)} pictures and no annotated person: nothing to "
            "train on; look at the convert stage's report"
        )
    return pictures

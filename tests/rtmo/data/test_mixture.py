"""Several stores in one epoch: which pictures, how many, until when, with which joints."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from rtmo.data.config import AugmentConfig, HsvConfig, MosaicConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import BatchLoader, collate
from rtmo.data.mixture import MergedStore, Mixture
from rtmo.skeleton import CROWDPOSE14

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
HALF = ("nose", "left_eye", "left_ear")
"""Not mirrored into itself, so that a flip shows."""


@pytest.fixture
def stores(random_store):
    """30 and 40 pictures with people, and one left out of every four."""
    return random_store(40), random_store(54, dataset="other", unannotated=FACE)


def shown(mixture, epoch):
    places = (mixture.place(epoch, index) for index in range(mixture.num_samples(epoch)))
    return Counter((store.meta.dataset, position) for store, position in places)


def test_a_merged_store_shows_its_fraction_and_another_one_every_epoch(stores):
    main, other = stores
    mixture = Mixture(main, [MergedStore(other, 0.3, 100)], seed=0)
    assert mixture.num_samples(0) == 30 + 12
    epochs = [shown(mixture, epoch) for epoch in range(100)]
    for epoch in epochs:
        assert max(epoch.values()) <= 2  # a picture on the border of two stretches
        assert sum(name == "random" for name, _ in epoch) == 30
    assert epochs[0] != epochs[1]
    over_all = sum(epochs, Counter())
    counts = [over_all["other", position] for position in np.flatnonzero(other.people_per_image)]
    # Each is shown 30 times on average; a binomial spread of less than 5 either way, five of them.
    assert min(counts) > 5
    assert max(counts) < 55
    assert sum(counts) == 1200


def test_a_picture_follows_from_seed_epoch_and_sample(stores):
    main, other = stores
    first, again, reseeded = (
        Mixture(main, [MergedStore(other, 0.3, 9)], seed) for seed in (1, 1, 2)
    )
    assert first.place(3, 35) == again.place(3, 35)
    again.place(4, 31)
    assert shown(first, 3) == shown(again, 3) != shown(reseeded, 3)


def test_a_merged_store_leaves_at_its_epoch(stores):
    main, other = stores
    mixture = Mixture(main, [MergedStore(other, 1.0, 2), MergedStore(other, 0.5, 3)], seed=0)
    assert [mixture.num_samples(epoch) for epoch in range(4)] == [90, 90, 50, 30]
    assert {name for name, _ in shown(mixture, 3)} == {"random"}
    with pytest.raises(IndexError, match="sample 30 of epoch 3, which has 30"):
        mixture.place(3, 30)


def test_the_main_store_is_shown_as_without_others(stores):
    main, other = stores
    alone = TrainingSet(main, 64, AugmentConfig(), 0)
    mixed = TrainingSet(main, 64, AugmentConfig(), 0, [MergedStore(other, 0.5, 1)])
    for index in range(4):
        a, b = (dataset.samples(1, [index], "mosaic")[0] for dataset in (alone, mixed))
        np.testing.assert_array_equal(a.image, b.image)


def test_a_merged_store_with_another_skeleton_is_refused(random_store):
    main, other = random_store(4), random_store(4, CROWDPOSE14, "other")
    with pytest.raises(ValueError, match=r"'crowdpose14'.*has 'coco17'.*maps merged sets"):
        Mixture(main, [MergedStore(other, 1.0, 1)], seed=0)


def test_every_person_keeps_the_annotated_joints_of_its_own_set(random_store):
    main, other = random_store(8), random_store(8, dataset="other", unannotated=HALF)
    augment = AugmentConfig(
        mosaic=MosaicConfig(mosaic_prob=1.0, mixup_prob=1.0),
        hsv=HsvConfig(hue=0, saturation=0, value=0),
        flip_prob=0.5,
    )
    dataset = TrainingSet(main, 96, augment, 0, [MergedStore(other, 1.0, 9)])
    samples = [dataset.samples(0, [index], "mosaic")[0] for index in range(12)]
    rows = Counter(
        tuple(np.flatnonzero(row == 0).tolist())
        for row in np.concatenate([sample.labels.is_annotated for sample in samples])
    )
    # All of the main set; nose, left eye and ear missing; mirrored, right eye and ear missing.
    assert set(rows) == {(), (0, 1, 3), (0, 2, 4)}
    mixed = [sample for sample in samples if 0 < sample.labels.is_annotated[:, 0].mean() < 1]
    assert mixed  # people of both sets in one picture

    targets = collate(samples, 17).targets
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(
            targets.is_annotated[row, : len(sample.labels)], sample.labels.is_annotated
        )
    assert not targets.is_annotated[~targets.is_person].any()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_the_loader_ends_earlier_once_a_store_has_left(stores, workers):
    main, other = stores
    dataset = TrainingSet(main, 64, AugmentConfig(), 0, [MergedStore(other, 0.5, 1)])
    loader = BatchLoader(dataset, micro_batch=10, workers=workers, stall_s=60)
    both, alone = (list(loader.epoch(epoch, "letterbox")) for epoch in (0, 1))
    assert (len(both), len(alone)) == (5, 3)
    names = [name.split("/")[0] for name in chain.from_iterable(b.image_names for b in both)]
    assert Counter(names) == {"random": 30, "other": 20}
    assert not any("other" in name for batch in alone for name in batch.image_names)
    rest = list(loader.epoch(0, "letterbox", start_batch=3))
    assert [batch.image_names for batch in rest] == [batch.image_names for batch in both[3:]]

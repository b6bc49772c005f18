"""Segmentations, against pycocotools where it has an opinion."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rtmo.formats.records import FormatError
from rtmo.formats.segmentation import decompress_counts, read_segmentation, write_segmentation


@pytest.mark.parametrize("seed", range(5))
def test_compressed_run_lengths_agree_with_pycocotools(seed):
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.integers(0, 2, (40, 50), dtype=np.uint8), 9 * seed + 1, axis=0)
    encoded = coco_mask.encode(np.asfortranarray(mask))
    runs = read_segmentation({"size": encoded["size"], "counts": encoded["counts"].decode()})
    again = coco_mask.frPyObjects(write_segmentation(runs), *mask.shape)
    assert again["counts"] == encoded["counts"]


@pytest.mark.parametrize("text", ["\x00", "~"])
def test_damaged_run_lengths_are_refused(text):
    with pytest.raises(FormatError, match="compressed run lengths"):
        decompress_counts(text)


@pytest.mark.parametrize("empty", [None, [], {}])
def test_no_segmentation_is_none(empty):
    assert read_segmentation(empty) is None

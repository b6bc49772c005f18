import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.synthetic import SyntheticConfig, SyntheticImage, draw_image, generate

CONFIG = SyntheticConfig(num_images={"train": 60, "val": 5})


@pytest.fixture(scope="module")
def images() -> list[SyntheticImage]:
    return list(generate(CONFIG, "train"))


def test_a_second_run_gives_the_same_bytes_and_people(images):
    for first, second in zip(images[:10], generate(CONFIG, "train"), strict=False):
        assert first.jpeg == second.jpeg
        assert len(first.people) == len(second.people)
        for a, b in zip(first.people, second.people, strict=True):
            np.testing.assert_array_equal(a.coco_keypoints, b.coco_keypoints)
            assert (a.box_xywh, a.area, a.segmentation) == (b.box_xywh, b.area, b.segmentation)


def test_another_process_gives_the_same_bytes(images, repository):
    code = (
        "import hashlib; from rtmo.synthetic import SyntheticConfig, draw_image;"
        "c = SyntheticConfig(num_images={'train': 60, 'val': 5});"
        "print(hashlib.sha256(draw_image(c, 'train', 3).jpeg).hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == hashlib.sha256(images[3].jpeg).hexdigest()


def test_a_picture_does_not_depend_on_the_ones_before_it_or_on_how_many_there_are(images):
    longer = SyntheticConfig(num_images={"train": 900, "val": 40})
    assert draw_image(longer, "train", 17).jpeg == images[17].jpeg
    assert draw_image(CONFIG, "train", 2).jpeg == images[2].jpeg


def test_seed_split_and_index_each_change_the_picture(images):
    jpegs = {
        images[0].jpeg,
        images[1].jpeg,
        draw_image(CONFIG, "val", 0).jpeg,
        draw_image(CONFIG.model_copy(update={"seed": 1}), "train", 0).jpeg,
    }
    assert len(jpegs) == 4


def test_image_ids_and_file_names_are_unique_over_splits(images):
    ids = [image.image_id for image in (*images, *generate(CONFIG, "val"))]
    assert len(set(ids)) == len(ids) == 65
    assert images[0].file_name == "000000000001.jpg"
    assert draw_image(CONFIG, "val", 0).file_name == "000001000001.jpg"


def test_an_unknown_split_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match=r"no split 'test' in num_images, .*'train', 'val'"):
        generate(CONFIG, "test")


def test_the_jpeg_has_the_announced_size(images):
    small = SyntheticConfig(num_images={"train": 1}, width=200, height=160)
    for image in (images[0], *generate(small, "train")):
        pixels = cv2.imdecode(np.frombuffer(image.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (image.height, image.width, 3)


def test_generation_does_not_import_torch(repository):
    code = "import sys, rtmo.synthetic; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_the_default_dataset_has_every_kind_of_picture_and_person(images):
    people = [person for image in images for person in image.people]
    labelled = np.array([np.count_nonzero(p.coco_keypoints[:, 2]) for p in people])
    assert any(not image.people for image in images)
    assert any(len(image.people) >= 7 for image in images)
    assert any(person.is_crowd for person in people)
    assert any(not p.is_crowd and n == 0 for p, n in zip(people, labelled, strict=True))
    flags = np.concatenate([p.coco_keypoints[:, 2] for p in people])
    assert set(np.unique(flags)) == {0, 1, 2}
    assert 1.5 < len(people) / len(images) < 6


def test_every_labelled_keypoint_lies_in_the_picture_and_others_are_zero(images):
    for image in images:
        for person in image.people:
            for keypoints, skeleton in (
                (person.coco_keypoints, COCO17),
                (person.crowdpose_keypoints, CROWDPOSE14),
            ):
                assert keypoints.shape == (skeleton.num_keypoints, 3)
                labelled = keypoints[:, 2] > 0
                assert not keypoints[~labelled].any()
                xy = keypoints[labelled, :2]
                assert (xy >= 0).all()
                assert (xy <= (image.width - 1, image.height - 1)).all()


def test_visible_keypoints_lie_in_the_box(images):
    tolerance = 2.0
    for image in images:
        for person in image.people:
            x, y, width, height = person.box_xywh
            visible = person.coco_keypoints[person.coco_keypoints[:, 2] == 2, :2]
            assert (visible >= (x - tolerance, y - tolerance)).all()
            assert (visible <= (x + width + tolerance, y + height + tolerance)).all()


def test_both_skeletons_agree_where_they_share_a_joint(images):
    shared = [
        (COCO17.keypoints.index(name), k)
        for k, name in enumerate(CROWDPOSE14.keypoints)
        if name in COCO17.keypoints
    ]
    assert len(shared) == 12
    for person in (person for image in images for person in image.people):
        for coco, crowdpose in shared:
            np.testing.assert_array_equal(
                person.coco_keypoints[coco], person.crowdpose_keypoints[crowdpose]
            )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_images", {"train": 0}, r"num_images\['train'\] is 0"),
        ("person_height", (0.9, 0.3), r"person_height is \(0.9, 0.3\), expected low <= high"),
        ("people_weights", (1.0, -1.0), "must not be negative"),
        ("people", 3, "Extra inputs are not permitted"),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**{field: value})


def test_a_processor_without_fast_instructions_gives_the_same_bytes(images):
    cv2.setUseOptimized(False)
    try:
        plain = [image.jpeg for image in generate(CONFIG, "train")]
    finally:
        cv2.setUseOptimized(True)
    assert plain == [image.jpeg for image in images]

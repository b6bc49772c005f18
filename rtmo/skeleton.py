"""What a pose is made of: keypoint names, mirror pairs, limbs and OKS sigmas."""

from __future__ import annotations

from pydantic import Field, model_validator

from rtmo._config import Config


class Skeleton(Config):
    """An ordered set of keypoints; the one owner of order, mirror pairs, limbs and sigmas.

    Example:
        >>> COCO17.num_keypoints, COCO17.flip_permutation[:5]
        (17, (0, 2, 1, 4, 3))
    """

    name: str
    """What the data and the model files call it."""
    keypoints: tuple[str, ...] = Field(min_length=1)
    """Keypoint names in the order of every array."""
    flip_pairs: tuple[tuple[int, int], ...]
    """Index pairs that change places when a picture is mirrored."""
    limbs: tuple[tuple[int, int], ...]
    """Index pairs to join by a line in drawings."""
    sigmas: tuple[float, ...]
    """COCO's per-keypoint sigma; OKS uses 2 * sigma."""

    @model_validator(mode="after")
    def _check(self) -> Skeleton:
        count = len(self.keypoints)
        if len(set(self.keypoints)) != count:
            raise ValueError(f"skeleton {self.name!r}: keypoint names repeat: {self.keypoints}")
        if len(self.sigmas) != count:
            raise ValueError(
                f"skeleton {self.name!r} has {count} keypoints but {len(self.sigmas)} sigmas"
            )
        if any(sigma <= 0 for sigma in self.sigmas):
            raise ValueError(f"skeleton {self.name!r}: sigmas must be positive: {self.sigmas}")
        paired = [index for pair in self.flip_pairs for index in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"skeleton {self.name!r}: a keypoint is in two flip pairs")
        for index in (*paired, *(index for limb in self.limbs for index in limb)):
            if not 0 <= index < count:
                raise ValueError(
                    f"skeleton {self.name!r}: index {index} is not one of {count} keypoints"
                )
        return self

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """For each keypoint, the index that takes its place in the mirrored picture."""
        order = list(range(self.num_keypoints))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)


COCO17 = Skeleton(
    name="coco17",
    keypoints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    sigmas=(
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
)
"""COCO person keypoints. Source: https://cocodataset.org/#keypoints-eval"""

CROWDPOSE14 = Skeleton(
    name="crowdpose14",
    keypoints=(
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        "top_head",
        "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    limbs=(
        (10, 8),
        (8, 6),
        (11, 9),
        (9, 7),
        (6, 7),
        (0, 6),
        (1, 7),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (12, 13),
        (13, 0),
        (13, 1),
    ),
    sigmas=(
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
        0.079,
        0.079,
    ),
)
"""CrowdPose. Source: https://github.com/Jeff-sjtu/CrowdPose"""

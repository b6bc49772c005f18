"""The embedded dataset: articulated people drawn from a seed, with exact annotations."""

from rtmo.synthetic.annotations import coco_annotations, crowd_index, crowdpose_annotations
from rtmo.synthetic.config import SyntheticConfig
from rtmo.synthetic.generate import draw_image, generate
from rtmo.synthetic.records import SyntheticImage, SyntheticPerson

__all__ = [
    "SyntheticConfig",
    "SyntheticImage",
    "SyntheticPerson",
    "coco_annotations",
    "crowd_index",
    "crowdpose_annotations",
    "draw_image",
    "generate",
]

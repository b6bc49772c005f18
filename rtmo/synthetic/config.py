"""Settings of the embedded dataset."""

from __future__ import annotations

from pydantic import Field, model_validator

from rtmo._config import Config


class PostureWeights(Config):
    """How often each posture occurs, relative to the others."""

    standing: float = Field(0.42, gt=0)
    walking: float = Field(0.22, ge=0)
    sitting: float = Field(0.14, ge=0)
    squatting: float = Field(0.04, ge=0)
    bending: float = Field(0.05, ge=0)
    jumping: float = Field(0.06, ge=0)
    lying: float = Field(0.07, ge=0)


class ViewWeights(Config):
    """From where people are seen, relative to each other; half of `side` is the left side."""

    front: float = Field(0.46, gt=0)
    back: float = Field(0.2, ge=0)
    side: float = Field(0.34, ge=0)


class SyntheticConfig(Config):
    """What is drawn. The same values give the same bytes, in any order of generation."""

    seed: int = Field(0, ge=0)
    """Start of all randomness, together with the split's name and the picture's index."""
    num_images: dict[str, int] = Field({"train": 1500, "val": 200}, min_length=1)
    """Pictures per split; the names are free. Also the order in which image ids are given out."""
    width: int = Field(288, ge=96, le=1920)
    """Picture width, pixels."""
    height: int = Field(256, ge=96, le=1920)
    """Picture height, pixels."""
    people_weights: tuple[float, ...] = (0.05, 0.31, 0.24, 0.15, 0.09, 0.06, 0.04)
    """Relative frequency of pictures with 0, 1, 2, ... people close enough to be labelled."""
    crowd_weight: float = Field(0.06, ge=0)
    """Relative frequency, on the same scale, of pictures with a crowd."""
    crowd_people: tuple[int, int] = (7, 14)
    """Fewest and most people of a crowd."""
    group_prob: float = Field(0.15, ge=0, le=1)
    """Probability that the people of a picture stand close together, in front of each other."""
    person_height: tuple[float, float] = (0.35, 1.1)
    """Smallest and largest height of a standing person, fraction of the picture's height."""
    postures: PostureWeights = PostureWeights()
    """What people do."""
    views: ViewWeights = ViewWeights()
    """From which side they are seen."""
    occluder_prob: float = Field(0.35, ge=0, le=1)
    """Probability that something stands in front of people."""
    distant_people_prob: float = Field(0.15, ge=0, le=1)
    """Probability of a few distant people: a box and a segment, no labelled keypoints."""
    crowd_region_prob: float = Field(0.05, ge=0, le=1)
    """Probability of an `iscrowd` region: a band of tiny people with one mask."""
    unlabelled_hidden_prob: float = Field(0.4, ge=0, le=1)
    """Probability that a hidden keypoint is not labelled (v = 0) instead of guessed (v = 1)."""
    jpeg_quality: tuple[int, int] = (70, 95)
    """Range of the JPEG quality."""

    @model_validator(mode="after")
    def _check(self) -> SyntheticConfig:
        for split, count in self.num_images.items():
            if not 0 < count < 1_000_000:
                raise ValueError(f"num_images[{split!r}] is {count}, expected 1 to 999999")
        if min(self.people_weights) < 0 or sum(self.people_weights) + self.crowd_weight <= 0:
            raise ValueError(
                f"people_weights {self.people_weights} and crowd_weight {self.crowd_weight} "
                "must not be negative, and one of them must be positive"
            )
        ranges = {
            "crowd_people": (self.crowd_people, 1, 40),
            "person_height": (self.person_height, 0.1, 2.0),
            "jpeg_quality": (self.jpeg_quality, 1, 100),
        }
        for name, ((low, high), least, most) in ranges.items():
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name} is ({low}, {high}), expected low <= high within {least} to {most}"
                )
        return self

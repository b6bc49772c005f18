"""One signature for every runtime, pictures in and `Poses` out, and the runner of torch.

A runner owns the network of one runtime and says how a batch of input pixels becomes people;
fitting pictures and mapping people back is `Framing`'s and is the same for all. torch, ONNX Runtime
and OpenVINO are imported when a runner of theirs is made, so that no runtime needs another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import Padding
from rtmo.deployment.postprocess import Floats, InputPeople
from rtmo.skeleton import Skeleton
from rtmo.structures import Poses

if TYPE_CHECKING:
    from rtmo.model.inference import InferenceRTMO
    from rtmo.model.rtmo import RTMO

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
"""Where a network runs; `tensorrt` is ONNX Runtime's provider of that name, on an NVIDIA GPU."""


class UnavailableError(RuntimeError):
    """This host cannot run that kind of model file; the message says why."""


class Predictor(ABC):
    """Pictures in, people out.

    Calling it with one picture gives one `Poses`, with a list the list of theirs (one forward pass
    for all that have the same input size). Pictures are BGR uint8 arrays (H, W, 3) of any size.
    """

    def __init__(self, skeleton: Skeleton, framing: Framing) -> None:
        self.skeleton = skeleton
        self.framing = framing

    @abstractmethod
    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the network, the threshold and NMS.

        Args:
            pixels: shape (B, 3, H, W), float32, BGR 0..255.

        Returns:
            The people of each image in input pixels, best first.
        """

    @overload
    def __call__(self, images: NDArray[Any]) -> Poses: ...
    @overload
    def __call__(self, images: Sequence[NDArray[Any]]) -> list[Poses]: ...
    def __call__(self, images: NDArray[Any] | Sequence[NDArray[Any]]) -> Poses | list[Poses]:
        """Find the people of one picture or of several, in original-picture pixels."""
        if isinstance(images, np.ndarray):
            return self([images])[0]
        found: dict[int, Poses] = {}
        for group in self.framing.groups(images):
            batch = self.framing.prepare([images[place] for place in group])
            poses = self.framing.finish(self.infer(batch.pixels), batch)
            found.update(zip(group, poses, strict=True))
        return [found[place] for place in range(len(images))]


class TorchPredictor(Predictor):
    """A model in memory or from a weights file, folded, in torch."""

    def __init__(
        self,
        model: RTMO,
        device: Device = "auto",
        *,
        input_size: int = 640,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        max_people: int | None = None,
        padding: Padding = "square",
    ) -> None:
        """Fold a copy of the model; the model itself is left as it is.

        Args:
            model: RTMO in any mode.
            device: where to run; `auto` takes a GPU when there is one.
            input_size: side of the network input, pixels.
            score_threshold: people must score above this.
            nms_iou: box IoU above which the lower-scored of two people is dropped.
            max_people: people kept per picture at most; None keeps all, as evaluation wants.
            padding: how far pictures are padded.

        Raises:
            UnavailableError: if a device is asked for that is not there.
        """
        from rtmo.model.inference import fold

        super().__init__(model.skeleton, Framing(input_size, padding=padding))
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.max_people = max_people
        self._device = _torch_device(device)
        self._network: InferenceRTMO = fold(model).to(self._device)

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Candidates of every prior, NMS per image, coordinates of the kept people only."""
        import torch

        from rtmo.model.decode import select_people

        with torch.inference_mode():
            images = torch.from_numpy(pixels).to(self._device)
            scores, boxes, visibility, pose_vectors = self._network(images)
            priors_xy = self._network.priors_xy(pixels.shape[2], pixels.shape[3]).to(boxes)
            kept = [
                select_people(
                    image_scores,
                    image_boxes,
                    score_threshold=self.score_threshold,
                    nms_iou=self.nms_iou,
                    max_people=self.max_people,
                )
                for image_scores, image_boxes in zip(scores, boxes, strict=True)
            ]
            image = torch.cat([torch.full_like(rows, i) for i, rows in enumerate(kept)])
            prior = torch.cat(kept)
            boxes_xyxy = boxes[image, prior]
            keypoints = self._network.keypoints(
                pose_vectors[image, prior], boxes_xyxy, priors_xy[prior]
            )
            columns = (boxes_xyxy, scores[image, prior], keypoints, visibility[image, prior])
            counts = [len(rows) for rows in kept]
            per_image = zip(*(column.cpu().split(counts) for column in columns), strict=True)
            return [InputPeople(*(part.numpy() for part in parts)) for parts in per_image]


def _torch_device(device: Device) -> str:
    import torch

    if device == "tensorrt":
        raise UnavailableError(
            "device 'tensorrt' is a provider of ONNX Runtime, and torch has none: give the ONNX "
            "file of `rtmo export`"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("device 'cuda' was asked for, but torch sees no CUDA device")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device

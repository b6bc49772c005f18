"""Values inside an ONNX graph, as ONNX Runtime computes them on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from rtmo.deployment.postprocess import Floats


class InnerValues:
    """A graph that gives some of its values besides its outputs."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        """Prepare to run the graph.

        Args:
            model: a copy of it is run.
            names: float32 values or outputs of the graph.
        """
        import onnxruntime

        self.names = list(names)
        probed = onnx.ModelProto()
        probed.CopyFrom(model)
        present = {item.name for item in probed.graph.output}
        probed.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in present
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # below error it remarks on overridable initialisers
        self._session = onnxruntime.InferenceSession(
            probed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, pixels: Floats) -> dict[str, Floats]:
        """The values by name, for one network input (B, 3, H, W)."""
        values = self._session.run(self.names, {"input": pixels})
        return dict(zip(self.names, values, strict=True))

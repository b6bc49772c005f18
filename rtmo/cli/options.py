"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Padding = Annotated[
    Literal["square", "stride"],
    typer.Option(help="Pad to the whole input square, or faster: only to the next 32 pixels."),
]
Model = Annotated[
    Path,
    typer.Option(
        "--weights",
        help="Model file (.safetensors .pth .onnx .xml), or a published model: rtmo-s-body7",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

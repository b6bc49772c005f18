"""How far a gradient accumulated on one device is from that of eight.

    python -m benchmarks.accumulation data/processed/embedded/train --weights WEIGHTS

The published runs divide three loss terms (class, box, box L1) by the number of positives averaged
over eight GPUs of 32 pictures; the other terms are means of each GPU's own positives. Accumulating
eight micro-batches of 32 on one device, each is divided by its own number of positives, because the
later ones are not known yet. Both gradients are computed here from the same forward passes (batch
norms see one micro-batch in both), and compared with what separates two global batches anyway.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import Batch, BatchLoader
from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model.rtmo import RTMO
from rtmo.model.weights import load_model
from rtmo.store import Store

PER_DEVICE, DEVICES, GLOBAL_BATCHES = 32, 8, 2
DIVIDED_BY_POSITIVES = ("cls", "bbox", "bbox_l1")
PHASES = {
    "first": LossConfig(),
    "second": LossConfig(oks=10, mle=5, proxy_target="dcc"),
    "last": LossConfig(oks=10, mle=5, proxy_target="dcc", bbox_l1=1),
}


def gradient(model: RTMO, loss: Tensor) -> Tensor:
    """Gradient by all parameters in one vector; the graph stays for another call."""
    parameters = list(model.parameters())
    parts = torch.autograd.grad(
        loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in parts])


def accumulated(
    model: RTMO, criterion: Criterion, batches: list[Batch], config: LossConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of a global batch: ours, that of eight devices; positives per micro-batch."""
    divided, means, positives = [], [], []
    for batch in batches:
        losses = criterion(model(batch.images.float()), batch.targets, model.dcc, config)
        terms = losses.terms
        divided.append(gradient(model, sum(terms[name] for name in DIVIDED_BY_POSITIVES)))
        others = [term for name, term in terms.items() if name not in DIVIDED_BY_POSITIVES]
        means.append(gradient(model, torch.stack(others).sum()))
        positives.append(losses.num_positives)
    counts = torch.tensor(positives, dtype=torch.float32)
    shares = counts / counts.mean()
    ours = torch.stack([a + b for a, b in zip(divided, means, strict=True)]).mean(dim=0)
    scaled = [a * share + b for a, b, share in zip(divided, means, shares, strict=True)]
    return ours, torch.stack(scaled).mean(dim=0), counts


def main() -> None:
    """Measure every phase; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--side", type=int, default=160)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    dataset = TrainingSet(store, arguments.side, AugmentConfig(), seed=0)
    loader = BatchLoader(dataset, micro_batch=PER_DEVICE, workers=0, stall_s=600)
    batches = list(loader.epoch(0, "mosaic"))[: DEVICES * GLOBAL_BATCHES]
    criterion = Criterion(store.skeleton)
    measurement = raw_log.begin("accumulation")
    samples: dict[str, dict[str, list[float]]] = {}
    for name, config in PHASES.items():
        model = load_model(arguments.weights).train()
        ours, theirs, spreads = [], [], []
        for first in range(0, len(batches), DEVICES):
            a, b, counts = accumulated(model, criterion, batches[first : first + DEVICES], config)
            ours.append(a)
            theirs.append(b)
            spreads.append(float(counts.std() / counts.mean()))
        pairs = list(zip(ours, theirs, strict=True))
        samples[name] = {
            "spread": spreads,
            "deviation": [float((a - b).norm() / b.norm()) for a, b in pairs],
            "between": [float((a - b).norm() / b.norm()) for a, b in pairwise(theirs)],
        }
    print(table_of(measurement.end(samples, {"side": arguments.side})))


def table_of(log: RawLog) -> str:
    """Relative L2 differences of the whole gradient, means over the global batches."""
    rows = [
        (
            name,
            f"{mean(found['spread']):.1%}",
            f"{mean(found['deviation']):.2%}",
            f"{mean(found['between']):.0%}",
        )
        for name, found in log.samples.items()
    ]
    head = ["phase", "spread of positives", "ours to eight devices", "batch to batch"]
    return f"Side {log.settings['side']}.\n\n{table(head, rows)}"


if __name__ == "__main__":
    main()

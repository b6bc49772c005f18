"""Weights and images by formula, the same numbers on every machine: the golden files' inputs."""

import zlib

import numpy as np

KEPT = ("num_batches_tracked", "x_bins", "y_bins", "dim_t", "sigmas")

ONE_DIMENSIONAL = {
    "running_mean": lambda r, shape: 0.1 * r.standard_normal(shape),
    "running_var": lambda r, shape: r.uniform(0.5, 1.5, shape),
    "scale": lambda r, shape: r.uniform(0.8, 1.2, shape),
    "g": lambda r, shape: r.uniform(0.8, 1.2, shape),
    "gamma": lambda r, shape: r.uniform(0.5, 1.5, shape),
    "beta": lambda r, shape: 0.1 * r.standard_normal(shape),
    "pos_enc": lambda r, shape: 0.3 * r.standard_normal(shape),
    "bias": lambda r, shape: 0.1 * r.standard_normal(shape),
    "in_proj_bias": lambda r, shape: 0.1 * r.standard_normal(shape),
}

GAINS = {
    ".stem.": 1.4 / 128,
    ".branch_1x1.": 0.4 * 1.31,
    ".out_kpt_reg.": 1.0,
    ".out_bbox.": 0.3,
    ".out_cls.": 1.5,
    ".x_fc.": 0.15,
    ".y_fc.": 0.15,
}


def fill(key, shape):
    """Value (float32) of the official state dict's entry `key`; None keeps the constructed one."""
    last = key.split(".")[-1]
    if last in KEPT:
        return None
    if key.endswith("sigma_fc.2.scale"):
        return np.full(shape, 0.1, dtype=np.float32)
    r = _generator(key)
    if last in ONE_DIMENSIONAL:
        value = ONE_DIMENSIONAL[last](r, shape)
        if last == "bias" and ".out_cls." in key:
            value = value - 2.5
        if last == "bias" and ".out_bbox." in key:
            value = value + np.array([0, 0, 2.0, 2.2])
    elif len(shape) == 1:
        value = r.uniform(0.8, 1.2, shape)
    else:
        value = _gain(key, shape) / np.sqrt(np.prod(shape[1:])) * r.standard_normal(shape)
    return np.asarray(value, dtype=np.float32)


def image(name, height, width, batch=1):
    """Whole numbers 0..255, (batch, 3, height, width) float32; sides are multiples of 32."""
    r = _generator(name)
    images = []
    for _ in range(batch):
        coarse = r.random((3, height // 32, width // 32)) * 255
        noisy = np.kron(coarse, np.ones((1, 32, 32))) + 20 * r.standard_normal((3, height, width))
        images.append(np.clip(np.rint(noisy), 0, 255))
    return np.stack(images).astype(np.float32)


def _gain(key, shape):
    if ".blocks." in key and ".conv2." in key:
        return 0.4 * 1.31
    for part, gain in GAINS.items():
        if part in key:
            return gain
    return 1.0 if len(shape) == 2 else 1.31


def _generator(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))

"""The weights RTMO's authors published: names, addresses, checksums, figures. No torch.

Source: SPEC section 9; mmpose's model zoo, configs/body_2d_keypoint/rtmo. The eight hexadecimal
digits in a file's name are the first of its sha256.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from rtmo.deployment.cache import cache_folder
from rtmo.fetch import FetchError, Patience, RemoteFile, TransferError, fetch_files
from rtmo.model.config import PUBLISHED_INPUT_SIDES, Size
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

ADDRESS = "https://download.openmmlab.com/mmpose/v1/projects/rtmo/"
MIRROR_VARIABLE = "RTMO_MIRROR"
"""Environment variable: an address that serves the same files, tried before the official one."""
WITH_A_PERSON_WAITING = Patience(attempts=3)
"""Without a network that is three seconds; what has come is kept, and the next try goes on."""


@dataclass(frozen=True, slots=True)
class OfficialOnnx:
    """The published deployment of a checkpoint: an archive with an ONNX file in it."""

    sha256: str
    """Of the ONNX file."""
    archive_sha256: str | None = None
    """Of the archive, where known."""
    archive_bytes: int | None = None
    """Where known."""


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """One published checkpoint."""

    file: str
    """Its name at `ADDRESS`."""
    size: Size
    skeleton: Skeleton
    trained_on: Literal["COCO", "CrowdPose", "body7", "body7 with CrowdPose's keypoints"]
    measured_on: Literal["COCO val2017", "CrowdPose test"]
    published: Mapping[str, float]
    """Figures on `measured_on`, by our metrics' names, 0 to 1."""
    bytes: int | None = None
    """Where known."""
    sha256: str | None = None
    """The whole checksum where known."""
    onnx: OfficialOnnx | None = None
    """Its deployment, where a checksum of that is known."""

    @property
    def input_size(self) -> int:
        """Side of the network input of the published figures, pixels."""
        return PUBLISHED_INPUT_SIDES[self.size]

    @property
    def sha256_start(self) -> str:
        """As much of the checksum as is known."""
        return self.sha256 or self.file.removesuffix(".pth").split("-")[-1].split("_")[0]


def _coco(ap: float, ap50: float, ap75: float, ar: float, ar50: float) -> Mapping[str, float]:
    return MappingProxyType({"AP": ap, "AP50": ap50, "AP75": ap75, "AR": ar, "AR50": ar50})


def _crowdpose(*figures: float) -> Mapping[str, float]:
    names = ("AP", "AP50", "AP75", "AP_easy", "AP_medium", "AP_hard")
    return MappingProxyType(dict(zip(names, figures, strict=True)))


OFFICIAL_FILES: Mapping[str, OfficialFile] = MappingProxyType(
    {
        "rtmo-s-coco": OfficialFile(
            "rtmo-s_8xb32-600e_coco-640x640-8db55a59_20231211.pth",
            "s",
            COCO17,
            "COCO",
            "COCO val2017",
            _coco(0.677, 0.878, 0.737, 0.715, 0.908),
        ),
        "rtmo-m-coco": OfficialFile(
            "rtmo-m_16xb16-600e_coco-640x640-6f4e0306_20231211.pth",
            "m",
            COCO17,
            "COCO",
            "COCO val2017",
            _coco(0.709, 0.890, 0.778, 0.747, 0.920),
        ),
        "rtmo-l-coco": OfficialFile(
            "rtmo-l_16xb16-600e_coco-640x640-516a421f_20231211.pth",
            "l",
            COCO17,
            "COCO",
            "COCO val2017",
            _coco(0.724, 0.899, 0.788, 0.762, 0.927),
        ),
        "rtmo-t-body7": OfficialFile(
            "rtmo-t_8xb32-600e_body7-416x416-f48f75cb_20231219.pth",
            "t",
            COCO17,
            "body7",
            "COCO val2017",
            _coco(0.574, 0.803, 0.613, 0.611, 0.836),
            onnx=OfficialOnnx("20aad6e2e42359cac1c5b4a0b2da00e29bfe91a72a782fdcf287d273a04c1b24"),
        ),
        "rtmo-s-body7": OfficialFile(
            "rtmo-s_8xb32-600e_body7-640x640-dac2bf74_20231211.pth",
            "s",
            COCO17,
            "body7",
            "COCO val2017",
            _coco(0.686, 0.879, 0.744, 0.723, 0.908),
            bytes=39_766_454,
            sha256="dac2bf749bbfb51e69ca577ca0327dff4433e3be9a56b782f0b7ef94fb45247e",
            onnx=OfficialOnnx(
                "d0703d40d19f3921da51ae725402d5fdae4d2478c7442072d3101bd396f370d8",
                "3da7ad88b209f9da8be87ba5c325610639af04de3b5c8a96649b98cd9e2848a2",
                archive_bytes=36_442_532,
            ),
        ),
        "rtmo-m-body7": OfficialFile(
            "rtmo-m_16xb16-600e_body7-640x640-39e78cc4_20231211.pth",
            "m",
            COCO17,
            "body7",
            "COCO val2017",
            _coco(0.726, 0.899, 0.790, 0.763, 0.926),
        ),
        "rtmo-l-body7": OfficialFile(
            "rtmo-l_16xb16-600e_body7-640x640-b37118ce_20231211.pth",
            "l",
            COCO17,
            "body7",
            "COCO val2017",
            _coco(0.748, 0.911, 0.813, 0.786, 0.939),
            bytes=179_277_852,
            sha256="b37118cee39b43531c23d9e443fbb4f0b8987f590d9c6ed61978d12ecfce84df",
        ),
        "rtmo-s-crowdpose": OfficialFile(
            "rtmo-s_8xb32-700e_crowdpose-640x640-79f81c0d_20231211.pth",
            "s",
            CROWDPOSE14,
            "CrowdPose",
            "CrowdPose test",
            _crowdpose(0.673, 0.882, 0.729, 0.737, 0.682, 0.591),
        ),
        "rtmo-m-crowdpose": OfficialFile(
            "rrtmo-m_16xb16-700e_crowdpose-640x640-0eaf670d_20231211.pth",  # its double r
            "m",
            CROWDPOSE14,
            "CrowdPose",
            "CrowdPose test",
            _crowdpose(0.711, 0.897, 0.771, 0.774, 0.719, 0.634),
        ),
        "rtmo-l-crowdpose": OfficialFile(
            "rtmo-l_16xb16-700e_crowdpose-640x640-1008211f_20231211.pth",
            "l",
            CROWDPOSE14,
            "CrowdPose",
            "CrowdPose test",
            _crowdpose(0.732, 0.907, 0.793, 0.792, 0.741, 0.653),
        ),
        "rtmo-l-body7-crowdpose": OfficialFile(
            "rtmo-l_16xb16-700e_body7-crowdpose-640x640-5bafdc11_20231219.pth",
            "l",
            CROWDPOSE14,
            "body7 with CrowdPose's keypoints",
            "CrowdPose test",
            _crowdpose(0.838, 0.947, 0.893, 0.888, 0.847, 0.772),
        ),
    }
)
"""By the name of the preset that trains the same."""


def official_file(name: str) -> OfficialFile:
    """Look a published file up.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in OFFICIAL_FILES:
        close = difflib.get_close_matches(name, OFFICIAL_FILES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(OFFICIAL_FILES)}"
        raise ValueError(f"{name!r} is neither a file nor a published model; {hint}")
    return OFFICIAL_FILES[name]


def fetch_official(name: str, patience: Patience | None = None) -> Path:
    """The local copy of a published file, fetched and verified when it is not there yet.

    Raises:
        ValueError: if there is no published file of that name.
        FetchError: if it cannot be had or is not the published one; the message says where a copy
            got in another way must be put.
        TransferError: if the network failed; what has come is kept, run again to continue.
    """
    official = official_file(name)
    return _fetch(
        official.file, official.bytes, official.sha256_start, patience or WITH_A_PERSON_WAITING
    )


def fetch_official_onnx(name: str, patience: Patience | None = None) -> Path:
    """The local copy of a published ONNX file, which needs no torch; as `fetch_official`.

    Raises:
        ValueError: if there is no published file of that name, or no known ONNX file of it.
        FetchError: if it cannot be had or is not the published one.
        TransferError: if the network failed; run again to continue.
    """
    official = official_file(name)
    if official.onnx is None:
        have = [other for other, entry in OFFICIAL_FILES.items() if entry.onnx is not None]
        raise ValueError(
            f"{name} is published as torch weights only, which need torch: pip install "
            f"'rtmo[train]', or convert it where torch is (`rtmo export --weights {name} --out "
            f"DIR`) and give DIR/rtmo.onnx here. Without torch run {', '.join(have)}"
        )
    unpacked = cache_folder() / f"{official.file.removesuffix('.pth')}.onnx"
    if not (unpacked.is_file() and _sha256(unpacked.read_bytes()) == official.onnx.sha256):
        archive = _fetch(
            f"onnx_sdk/{official.file.removesuffix('.pth')}.zip",
            official.onnx.archive_bytes,
            official.onnx.archive_sha256,
            patience or WITH_A_PERSON_WAITING,
        )
        content = _onnx_inside(archive, official.onnx.sha256)
        partial = unpacked.with_name(f".{unpacked.name}.partial")
        partial.write_bytes(content)
        partial.replace(unpacked)
    return unpacked


def _fetch(name: str, size: int | None, sha256: str | None, patience: Patience) -> Path:
    mirror = os.environ.get(MIRROR_VARIABLE)
    addresses = [ADDRESS] if mirror is None else [f"{mirror.rstrip('/')}/", ADDRESS]
    urls = tuple(address + name for address in addresses)
    remote = RemoteFile(name=name, urls=urls, bytes=size, sha256=sha256)
    try:
        (fetched,) = fetch_files((remote,), cache_folder(), patience)
    except (FetchError, TransferError) as error:
        checksum = f"sha256 {sha256}{'...' if len(sha256) < 64 else ''}" if sha256 else "no sha256"
        raise type(error)(
            f"{error}. It has {checksum}. Or name a server that has it in {MIRROR_VARIABLE}"
        ) from error
    return fetched.path


def _onnx_inside(archive: Path, sha256: str) -> bytes:
    """The ONNX file in a published archive.

    Raises:
        FetchError: if it is not there or not the published one.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            found = [name for name in members.namelist() if name.endswith("end2end.onnx")]
            content = members.read(found[0]) if found else b""
    except (zipfile.BadZipFile, EOFError) as error:
        raise FetchError(f"{archive} is damaged ({error}); delete it and run again") from None
    if _sha256(content) != sha256:
        raise FetchError(
            f"{archive} holds {found or 'no end2end.onnx'} with sha256 {_sha256(content)}, "
            f"expected {sha256}; delete it and run again"
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

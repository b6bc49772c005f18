"""The numbers of the two evaluation protocols, COCO's and CrowdPose's (SPEC section 6)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

Protocol: TypeAlias = Literal["coco", "crowdpose"]
"""Whose evaluation rules apply."""

MAX_DETECTIONS = 20
"""People per image that count, best score first (COCO's maxDets for keypoints)."""

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""A person is found if the OKS reaches the threshold; AP is the mean over these."""

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
"""Where precision is read off."""

CROWD_LEVELS = (("AP_easy", 0.0, 0.2), ("AP_medium", 0.2, 0.8), ("AP_hard", 0.8, np.inf))
"""CrowdPose's subsets of images: metric, lowest crowdIndex (inside), highest (outside).

Source: https://github.com/Jeff-sjtu/CrowdPose
"""

"""An articulated body: proportions, joint angles, and where the joints end up.

Body frame: x to the person's left, y up, z forward; the unit is the person's standing height.
Facing the camera, the body frame is the camera's: x right in the picture, y up, z to the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

LANDMARKS = (
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
    "top_head",
    "neck",
)
"""Every point either skeleton asks for."""

LEFT, RIGHT = 1.0, -1.0
"""Sign of x on that side of the body."""


@dataclass(frozen=True, slots=True)
class Build:
    """Lengths of one body, fractions of the standing height, and its stoutness."""

    head: tuple[float, float, float]
    """Half-axes of the head: across, up, forward."""
    head_rise: float
    """Head centre above the shoulder line."""
    torso: float
    """Hip line to shoulder line."""
    shoulder: float
    """Half the distance between the shoulder joints."""
    hip: float
    """Half the distance between the hip joints."""
    upper_arm: float
    forearm: float
    thigh: float
    shank: float
    stoutness: float
    """Factor on the thickness of limbs and trunk."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Angles in degrees; a hanging straight arm is all zeros."""

    flexion: float
    """Upper arm raised forward."""
    abduction: float
    """Upper arm raised sideways."""
    elbow: float
    """Bend at the elbow, 0 is straight."""
    curl: tuple[float, float, float] = (0.3, 0.0, 1.0)
    """Where the bent forearm goes: inward, up, forward."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Angles in degrees; a straight standing leg is all zeros."""

    flexion: float
    abduction: float
    knee: float


@dataclass(frozen=True, slots=True)
class Pose:
    """All joint angles of a body, degrees."""

    left_arm: Arm
    right_arm: Arm
    left_leg: Leg
    right_leg: Leg
    facing: float
    """0 looks into the camera, 90 to the picture's right, 180 away."""
    pitch: float = 0.0
    """The whole body tilted forward."""
    roll: float = 0.0
    """The whole body tilted to its right."""
    bend: float = 0.0
    """Spine bent forward."""
    lean: float = 0.0
    """Spine bent to the right."""
    twist: float = 0.0
    """Shoulders turned to the left against the hips."""
    head_turn: float = 0.0
    """Head turned to the left."""
    head_nod: float = 0.0
    """Head bent forward."""
    lift: float = 0.0
    """Height above the ground, fractions of the standing height."""
    seated: bool = False
    """Whether something has to be under the hips."""

    def mirrored(self) -> Pose:
        """The pose a mirror shows."""
        return replace(
            self,
            left_arm=self.right_arm,
            right_arm=self.left_arm,
            left_leg=self.right_leg,
            right_leg=self.left_leg,
            facing=-self.facing,
            roll=-self.roll,
            lean=-self.lean,
            twist=-self.twist,
            head_turn=-self.head_turn,
        )


@dataclass(frozen=True, slots=True)
class Body:
    """A posed body. Points are (3,) in the camera's axes, the ground at y = 0."""

    points: dict[str, np.ndarray]
    """All of LANDMARKS and the points that only drawing needs."""
    chest: np.ndarray
    """(3, 3) columns left, up, forward of the chest."""
    pelvis: np.ndarray
    """(3, 3) likewise."""
    head: np.ndarray
    """(3, 3) likewise."""
    build: Build


def pose_body(build: Build, pose: Pose) -> Body:
    """Put a body into a pose, its lowest joint `pose.lift` above the ground."""
    pelvis = _about_y(pose.facing) @ _about_z(pose.roll) @ _about_x(pose.pitch)
    chest = pelvis @ _about_y(pose.twist) @ _about_z(pose.lean) @ _about_x(pose.bend)
    head = chest @ _about_y(pose.head_turn) @ _about_x(pose.head_nod)
    points = _trunk(build, pelvis, chest)
    points |= _head(build, points["neck"], chest, head)
    for side, name, arm, leg in (
        (LEFT, "left", pose.left_arm, pose.left_leg),
        (RIGHT, "right", pose.right_arm, pose.right_leg),
    ):
        points |= _arm(build, arm, side, name, points[f"{name}_shoulder"], chest)
        points |= _leg(build, leg, side, name, points[f"{name}_hip"], pelvis)
    lowest = min(float(point[1]) for point in points.values())
    rise = np.array([0.0, pose.lift + SOLE - lowest, 0.0])
    return Body({name: point + rise for name, point in points.items()}, chest, pelvis, head, build)


SOLE = 0.02
"""Height of toe and heel centres above the ground."""


def _trunk(build: Build, pelvis: np.ndarray, chest: np.ndarray) -> dict[str, np.ndarray]:
    waist = 0.35 * build.torso * pelvis[:, 1]
    shoulders = waist + 0.65 * build.torso * chest[:, 1]
    return {
        "pelvis": np.zeros(3),
        "waist": waist,
        "left_hip": build.hip * pelvis[:, 0],
        "right_hip": -build.hip * pelvis[:, 0],
        "left_shoulder": shoulders + build.shoulder * chest[:, 0],
        "right_shoulder": shoulders - build.shoulder * chest[:, 0],
        "neck": shoulders + 0.02 * chest[:, 1],
    }


def _head(
    build: Build, neck: np.ndarray, chest: np.ndarray, head: np.ndarray
) -> dict[str, np.ndarray]:
    base = neck + 0.3 * build.head_rise * chest[:, 1]
    centre = base + 0.7 * build.head_rise * head[:, 1]
    return {"skull": centre} | {
        name: centre + head @ (np.array(direction) * build.head)
        for name, direction in HEAD_LANDMARKS.items()
    }


HEAD_LANDMARKS = {
    "nose": (0.0, -0.12, 1.08),
    "left_eye": (0.42, 0.14, 0.88),
    "right_eye": (-0.42, 0.14, 0.88),
    "left_ear": (1.0, 0.0, -0.05),
    "right_ear": (-1.0, 0.0, -0.05),
    "top_head": (0.0, 1.0, 0.0),
}
"""Directions from the head's centre, in its half-axes."""


def _arm(
    build: Build, arm: Arm, side: float, name: str, shoulder: np.ndarray, chest: np.ndarray
) -> dict[str, np.ndarray]:
    upper = _limb_direction(arm.flexion, arm.abduction, side)
    inward, up, forward = arm.curl
    curl = np.array([-side * inward, up, forward])
    curl -= (curl @ upper) * upper
    curl /= max(math.sqrt(curl @ curl), 1e-6)
    bend = math.radians(arm.elbow)
    lower = math.cos(bend) * upper + math.sin(bend) * curl
    elbow = shoulder + build.upper_arm * (chest @ upper)
    wrist = elbow + build.forearm * (chest @ lower)
    return {
        f"{name}_elbow": elbow,
        f"{name}_wrist": wrist,
        f"{name}_hand": wrist + HAND * (chest @ lower),
    }


HAND = 0.045
"""Wrist to the middle of the fingers."""
FOOT = 0.085
"""Ankle to toes, along the ground."""


def _leg(
    build: Build, leg: Leg, side: float, name: str, hip: np.ndarray, pelvis: np.ndarray
) -> dict[str, np.ndarray]:
    below = leg.flexion - leg.knee
    knee = hip + build.thigh * (pelvis @ _limb_direction(leg.flexion, leg.abduction, side))
    shin = pelvis @ _limb_direction(below, 0.6 * leg.abduction, side)
    ankle = knee + build.shank * shin
    forward = pelvis @ _limb_direction(below + 90.0, 12.0, side)
    return {
        f"{name}_knee": knee,
        f"{name}_ankle": ankle,
        f"{name}_heel": ankle + 0.025 * shin - 0.015 * forward,
        f"{name}_toe": ankle + 0.03 * shin + FOOT * forward,
    }


def _limb_direction(flexion: float, abduction: float, side: float) -> np.ndarray:
    """Unit vector of a limb that hangs down at (0, 0), in the frame of the trunk it hangs on."""
    flex, abduct = math.radians(flexion), math.radians(abduction)
    return np.array(
        [
            side * math.sin(abduct),
            -math.cos(abduct) * math.cos(flex),
            math.cos(abduct) * math.sin(flex),
        ]
    )


def _about_x(degrees: float) -> np.ndarray:
    """Rotation that takes up towards forward."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _about_y(degrees: float) -> np.ndarray:
    """Rotation that takes forward towards left."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _about_z(degrees: float) -> np.ndarray:
    """Rotation that takes up towards right."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

"""A whole skeleton out of names and answers."""

import pytest

from rtmo.formats.label_set import DeclaredSkeleton
from rtmo.formats.records import FormatError
from rtmo.formats.skeleton_guess import DEFAULT_SIGMA, Answers, flip_pairs_of, settle_skeleton
from rtmo.skeleton import COCO17, CROWDPOSE14

NAMES = ("head", "left_hand", "right_hand", "tail")


@pytest.mark.parametrize("known", [COCO17, CROWDPOSE14])
def test_names_of_a_known_skeleton_give_its_pairs_and_sigmas(known):
    settled = settle_skeleton("mine", DeclaredSkeleton(known.keypoints), Answers())
    assert settled.skeleton == known


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("l", "r"), ()),
        (("left", "right"), ()),
        (("leg", "arm_left"), ()),
        (("Left Knee", "Right Knee"), ((0, 1),)),
        (("kneeR", "kneeL", "R1", "L1", "L2"), ((1, 0), (3, 2))),
    ],
)
def test_pairs_differ_in_their_side_only(names, pairs):
    assert flip_pairs_of(names) == pairs


def test_every_part_says_where_it_comes_from():
    answers = Answers(sigmas={"head": 0.03})
    settled = settle_skeleton("mine", DeclaredSkeleton(NAMES, ((0, 1),)), answers)
    assert settled.skeleton.sigmas == (0.03, *(DEFAULT_SIGMA,) * 3)
    assert settled.skeleton.flip_pairs == ((1, 2),)
    said = " ".join(settled.remarks)
    assert "left_hand:right_hand, guessed from the names" in said
    assert "1 as given" in said
    assert "left_hand, right_hand, tail have 0.072" in said


def test_an_answer_wins_over_the_files_and_the_files_over_the_names():
    declared = DeclaredSkeleton(NAMES, flip_pairs=((0, 3),))
    assert settle_skeleton("mine", declared, Answers()).skeleton.flip_pairs == ((0, 3),)
    answers = Answers(flip_pairs=(("right_hand", "left_hand"),))
    assert settle_skeleton("mine", declared, answers).skeleton.flip_pairs == ((2, 1),)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (Answers(flip_pairs=(("head", "hnad"),)), "flip pair names 'hnad'; the keypoints are head"),
        (Answers(sigmas={"nose": 0.1}), "sigma names 'nose'"),
        (Answers(sigmas={"head": 0.0}), "sigmas must be positive"),
        (Answers(flip_pairs=(("head", "tail"), ("tail", "head"))), "in two flip pairs"),
    ],
)
def test_an_impossible_answer_is_refused(answers, message):
    with pytest.raises(FormatError, match=message):
        settle_skeleton("mine", DeclaredSkeleton(NAMES), answers)


def test_names_without_sides_ask_for_pairs():
    settled = settle_skeleton("mine", DeclaredSkeleton(("a", "b")), Answers())
    assert any("NONE found" in remark for remark in settled.remarks)

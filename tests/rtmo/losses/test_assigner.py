"""What the golden files do not pin in the assigner, and its edges."""

import dataclasses

import pytest
import torch

from rtmo.losses.assigner import assign, find_candidates, match, matching_cost

SIGMAS = torch.tensor([0.5, 0.5])


def test_a_contested_prior_keeps_its_cheapest_person_among_all_not_only_the_matched():
    # Prior 0 is matched to people 0 and 1, but person 2, which did not take it, is cheaper there.
    cost = torch.tensor([[[2.0, 3.0, 1.0], [9.0, 9.0, 0.1]]])
    overlaps = torch.zeros(1, 2, 3)  # everybody gets one prior
    is_match = match(cost, overlaps, torch.ones(1, 2, 3, dtype=torch.bool))
    assert is_match.tolist() == [[[False, False, True], [False, False, True]]]


def test_an_uncontested_prior_keeps_the_person_that_took_it():
    cost = torch.tensor([[[2.0, 1.0], [9.0, 0.1]]])
    is_match = match(cost, torch.zeros(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool))
    assert is_match.tolist() == [[[True, False], [False, True]]]


def test_number_of_priors_is_the_truncated_sum_of_the_ten_largest_overlaps():
    overlaps = torch.full((1, 20, 1), 0.29)  # ten of them: 2.9
    cost = torch.arange(20.0).reshape(1, 20, 1)
    is_match = match(cost, overlaps, torch.ones(1, 20, 1, dtype=torch.bool))
    assert is_match.squeeze().nonzero().flatten().tolist() == [0, 1]


def test_impossible_pairs_are_never_matched_and_do_not_raise_the_count():
    cost, overlaps = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    is_possible = torch.tensor([[[True, False], [True, False], [False, False]]])
    is_match = match(cost, overlaps, is_possible)
    assert is_match.tolist() == [[[True, False], [True, False], [False, False]]]


def test_inside_means_box_and_centre_square_of_the_same_person(make_raw, make_targets):
    # Two people side by side: a prior in the box of one and the square of the other is outside.
    raw = make_raw()
    targets = make_targets([[0, 0, 90, 30], [0, 30, 90, 90]])
    candidates = find_candidates(raw.priors_xy, raw.strides, targets, "box")
    prior = int(((raw.priors_xy - torch.tensor([39.5, 39.5])).abs().sum(1) == 0).nonzero()[0])
    # (39.5, 39.5): in the square of person 0 (centre 45, 15; half side 40), in the box of person 1
    assert candidates.is_inside[0, prior].tolist() == [False, True]
    assert candidates.is_candidate[0, prior]


def test_box_borders_are_outside(make_raw, make_targets):
    raw = make_raw()
    targets = make_targets([[7.5, 7.5, 500.0, 500.0]])  # centre far away
    candidates = find_candidates(raw.priors_xy, raw.strides, targets, "box")
    assert not candidates.is_candidate[0, 0]
    assert candidates.is_candidate[0, 7]


def test_centre_square_follows_labelled_keypoints_or_the_box(make_raw, make_targets):
    raw = make_raw()
    keypoints = torch.tensor([[[[80.0, 80.0], [0.0, 0.0]]]])
    labelled = torch.tensor([[[1.0, 0.0]]])
    targets = make_targets([[0, 0, 16, 16]], keypoints=keypoints, labelled=labelled)
    by_box = find_candidates(raw.priors_xy, raw.strides, targets, "box")
    by_keypoints = find_candidates(raw.priors_xy, raw.strides, targets, "keypoints")
    far = 35  # the last prior of the fine level, (87.5, 87.5)
    assert not by_box.is_candidate[0, far]
    assert by_keypoints.is_candidate[0, far]
    unlabelled = dataclasses.replace(targets, is_labelled=torch.zeros(1, 1, 2))
    fallen_back = find_candidates(raw.priors_xy, raw.strides, unlabelled, "keypoints")
    assert torch.equal(fallen_back.is_candidate, by_box.is_candidate)


def test_class_cost_is_bounded_like_torchs_cross_entropy(make_raw, make_targets):
    raw, targets = make_raw(), make_targets([[0, 0, 90, 90]])
    hopeless = dataclasses.replace(raw, cls_logits=torch.full_like(raw.cls_logits, -1e6))
    candidates = find_candidates(raw.priors_xy, raw.strides, targets, "box")
    overlaps = torch.ones(1, 45, 1)
    difference = matching_cost(hopeless, targets, candidates, overlaps) - matching_cost(
        dataclasses.replace(raw, cls_logits=torch.full_like(raw.cls_logits, 1e6)),
        targets,
        candidates,
        overlaps,
    )
    inside = candidates.is_inside[0, :, 0]
    torch.testing.assert_close(difference[0, inside, 0], torch.full((int(inside.sum()),), 100.0))


def test_a_nan_logit_counts_as_zero(make_raw, make_targets):
    raw, targets = make_raw(), make_targets([[0, 0, 90, 90]])
    broken = dataclasses.replace(raw, cls_logits=torch.full_like(raw.cls_logits, torch.nan))
    expected = assign(raw, targets, SIGMAS, "box")
    actual = assign(broken, targets, SIGMAS, "box")
    assert torch.equal(actual.prior_ids, expected.prior_ids)


@pytest.mark.parametrize("people", [[], [[200.0, 200.0, 210.0, 210.0]]])
def test_nobody_and_nobody_within_reach_give_no_positives(people, make_raw, make_targets):
    assert len(assign(make_raw(), make_targets(people), SIGMAS, "box")) == 0


def test_padding_people_change_nothing(make_raw, make_targets):
    raw = make_raw()
    alone = make_targets([[10, 10, 60, 60]])
    padded = make_targets([[10, 10, 60, 60], [20, 20, 70, 70]])
    padded = dataclasses.replace(padded, is_person=torch.tensor([[True, False]]))
    expected, actual = (assign(raw, targets, SIGMAS, "box") for targets in (alone, padded))
    assert torch.equal(actual.prior_ids, expected.prior_ids)
    assert not actual.person_ids.any()


def test_permuting_people_permutes_the_assignment(make_raw, make_targets):
    raw = make_raw()
    boxes = [[0, 0, 40, 50], [30, 20, 90, 90], [50, 0, 95, 40]]
    raw.cls_logits.copy_(torch.linspace(-1, 1, 45))  # no ties
    straight = assign(raw, make_targets(boxes), SIGMAS, "box")
    turned = assign(raw, make_targets(boxes[::-1]), SIGMAS, "box")
    assert torch.equal(straight.prior_ids, turned.prior_ids)
    assert torch.equal(straight.person_ids, 2 - turned.person_ids)


def test_images_of_a_batch_do_not_see_each_other(make_raw, make_targets):
    raw = make_raw(batch=2)
    one, other = make_targets([[0, 0, 50, 50]]), make_targets([[30, 30, 90, 90]])
    both = dataclasses.replace(
        one,
        **{
            field: torch.cat((getattr(one, field), getattr(other, field)))
            for field in ("boxes_xyxy", "keypoints_xy", "is_labelled", "areas", "is_person")
        },
    )
    joint = assign(raw, both, SIGMAS, "box")
    for image, targets in enumerate((one, other)):
        single = assign(make_raw(), targets, SIGMAS, "box")
        assert torch.equal(joint.prior_ids[joint.image_ids == image], single.prior_ids)


def test_a_person_gets_at_least_as_many_priors_as_asked_for():
    cost = torch.arange(20.0).view(1, 20, 1)
    overlaps, is_possible = torch.zeros(1, 20, 1), torch.ones(1, 20, 1, dtype=torch.bool)
    counts = [int(match(cost, overlaps, is_possible, least).sum()) for least in (1, 5, 10)]
    assert counts == [1, 5, 10]

"""OKS: one formula in two shapes."""

import pytest
import torch

from rtmo.oks import paired_oks, pairwise_oks
from rtmo.skeleton import COCO17


@pytest.fixture
def people():
    torch.manual_seed(0)
    return {
        "gt_keypoints": torch.rand(2, 5, 17, 2) * 100,
        "gt_labelled": (torch.rand(2, 5, 17) > 0.3).float(),
        "gt_areas": torch.rand(2, 5) * 5000 + 10,
        "sigmas": torch.tensor(COCO17.sigmas),
    }


def test_every_pair_is_what_the_paired_form_says(people):
    poses = torch.rand(2, 7, 17, 2) * 100
    table = pairwise_oks(poses, **people)
    for n in range(7):
        for g in range(5):
            single = paired_oks(
                poses[:, n],
                people["gt_keypoints"][:, g],
                people["gt_labelled"][:, g],
                people["gt_areas"][:, g],
                people["sigmas"],
            )
            torch.testing.assert_close(table[:, n, g], single)


def test_sigma_is_doubled_and_the_exponent_halved():
    pose, truth = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
    oks = paired_oks(pose, truth, torch.ones(1), torch.tensor(100.0), torch.tensor([0.25]))
    assert oks.item() == pytest.approx(torch.tensor(-0.5 * 25 / (100 * 0.25)).exp().item())


def test_a_person_without_labelled_keypoints_scores_zero(people):
    people["gt_labelled"][:, 2] = 0
    assert not pairwise_oks(people["gt_keypoints"], **people)[:, :, 2].any()


def test_a_person_without_area_gives_no_nan(people):
    people["gt_areas"][:] = 0
    assert pairwise_oks(torch.rand(2, 3, 17, 2), **people).isfinite().all()


def test_poses_of_another_skeleton_are_refused(people):
    with pytest.raises(ValueError, match="14 keypoints, people 17, sigmas 17"):
        pairwise_oks(torch.rand(2, 3, 14, 2), **people)

from rtmo.losses.config import LossConfig
from rtmo.training.config import Phase
from rtmo.training.phases import phase_at

COCO = (
    Phase(first_epoch=0),
    Phase(first_epoch=280, loss=LossConfig(oks=10, mle=5, proxy_target="dcc")),
    Phase(first_epoch=579, pipeline="letterbox", loss=LossConfig(bbox_l1=1)),
)


def test_a_phase_holds_from_its_first_epoch_until_the_next_begins():
    firsts = [phase_at(COCO, epoch).first_epoch for epoch in (0, 1, 279, 280, 578, 579, 600)]
    assert firsts == [0, 0, 0, 280, 280, 579, 579]


def test_a_run_resumed_behind_a_switch_is_in_the_new_phase():
    assert phase_at(COCO, 300).loss.proxy_target == "dcc"

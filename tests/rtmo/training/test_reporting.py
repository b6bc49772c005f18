import io
import logging

from rich.console import Console

from rtmo.training.reporting import ConsoleReporter, StepFigures, warn_if_loader_bound

FIGURES = StepFigures(
    step=3, epoch=0, loss=7.5, terms={"cls": 1.0, "mle": 2.0}, images_per_s=31.4, data_wait=0.05
)


def test_in_a_terminal_a_person_sees_speed_data_wait_and_loss_terms():
    screen = io.StringIO()
    with ConsoleReporter(10, Console(file=screen, force_terminal=True, width=200)) as console:
        console.show_step(FIGURES)
    assert "31.4 images/s, data wait 5%, loss 7.50 (cls 1.00 mle 2.00)" in screen.getvalue()
    assert "30%" in screen.getvalue()


def test_in_a_log_file_there_is_one_line_per_epoch_and_no_progress_bar(caplog):
    screen = io.StringIO()
    with (
        caplog.at_level(logging.INFO),
        ConsoleReporter(10, Console(file=screen, force_terminal=False)) as console,
    ):
        for _ in range(5):
            console.show_step(FIGURES)
        console.log_metrics(5, {"epoch": 1.0, "loss": 7.5})
    assert screen.getvalue().strip() == ""
    assert [record.message for record in caplog.records] == ["step 5: epoch 1 loss 7.5"]


def test_a_person_is_told_when_the_loader_is_the_bottleneck(caplog):
    warn_if_loader_bound(0.05, workers=1)
    assert not caplog.records
    warn_if_loader_bound(0.4, workers=1)
    assert "train.workers is 1" in caplog.text

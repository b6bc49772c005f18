"""The gate split."""

from rtmo.formats.splits import choose_gate

PICTURES = [(1000 + number % 7, number * 7919) for number in range(200)]


def test_the_gate_has_the_fraction_asked_for():
    assert len(choose_gate(PICTURES, 0.15)) == 30
    assert len(choose_gate(PICTURES, 0.0)) == 0
    assert len(choose_gate(PICTURES[:3], 0.1)) == 1


def test_the_gate_does_not_depend_on_order_or_repetition():
    assert choose_gate(PICTURES, 0.2) == choose_gate([*reversed(PICTURES), *PICTURES], 0.2)


def test_new_pictures_hardly_change_the_gate():
    before, after = choose_gate(PICTURES[:190], 0.2), choose_gate(PICTURES, 0.2)
    assert len(before - after) <= 4

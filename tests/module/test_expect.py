"""How edges say what is wrong: the ends of every range, and what stands where."""

import pytest
import torch

from lessons_src.expect import describe, expect_between, expect_int


@pytest.mark.parametrize("value, fits", [(0, False), (1, True), (3, True), (4, False)])
def test_the_ends_of_a_range_of_whole_numbers_belong_to_it(value, fits):
    """From 1 to 3: 1 and 3 are taken, 0 and 4 are not."""
    if fits:
        return expect_int("n", value, high=3)
    with pytest.raises(ValueError, match=f"n must be .* 1 to 3, received {value}"):
        expect_int("n", value, high=3)


@pytest.mark.parametrize("value", [-1e-9, 0, 0.5, 1, 1.0 + 1e-9])
@pytest.mark.parametrize("ends", [True, False])
def test_the_ends_of_a_range_belong_to_it_where_it_says_so(value, ends):
    """0 and 1 are "from 0 to 1", and not "between 0 and 1"."""
    if 0 < value < 1 or ends and value in (0, 1):
        return expect_between("share", value, ends=ends)
    with pytest.raises(ValueError, match="from 0 to 1" if ends else "between 0 and 1"):
        expect_between("share", value, ends=ends)


def test_a_tensor_is_named_by_its_place_where_that_may_be_the_mistake():
    """Elsewhere than on the CPU, where nearly all are."""
    assert describe(torch.zeros(2)) == "(2,) torch.float32"
    assert describe(torch.zeros(2, device="meta")) == "(2,) torch.float32 on meta"

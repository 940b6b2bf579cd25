import numpy as np
import pytest

from tests.compare import assert_close, relative_difference


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-11]),
        ([1.0, 2.0], [[1.0, 2.0]]),
        ([1.0, np.nan], [1.0, np.nan]),
        (np.array([1.0], np.float32), np.array([1.0001], np.float32)),
    ],
)
def test_differences_are_found(actual: object, expected: object) -> None:
    with pytest.raises(AssertionError):
        assert_close(actual, expected)


def test_tolerance_is_relative_to_the_largest_entry() -> None:
    assert_close([1e6, 1e-7], [1e6, 2e-7])
    with pytest.raises(AssertionError, match="entry"):
        assert_close([1e6, 1.0], [1e6, 2.0])


def test_relative_difference() -> None:
    assert relative_difference([3.0, 4.0], [3.0, 0.0]) == pytest.approx(4 / 3)

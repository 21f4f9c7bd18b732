"""Orders of features, where there is nothing to choose by."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.cohort.classification.selection import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_features_that_are_the_same_in_all_patients_are_no_reason_to_fail(method):
    # a few approved concepts may be absent from all patients of a fold
    y = np.repeat([0, 1], 6)
    order = METHODS[method](np.zeros((12, 3)), y, 2)
    assert set(map(int, np.ravel(order))) <= {0, 1, 2}

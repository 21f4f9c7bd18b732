from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.explaining.cell_type_probe import fit_probe
from cytosae.common.errors import InputError


def cells(of=3, patients=10, each=5, seed=0):
    """Types, patients and what is read of cells whose types lie apart."""
    rng = np.random.default_rng(seed)
    types = [f"type {k}" for _ in range(patients) for k in range(of) for _ in range(each)]
    groups = [f"P{p}" for p in range(patients) for _ in range(of * each)]
    centres = 4 * rng.normal(size=(of, 12))
    return types, groups, centres[[int(name[-1]) for name in types]] + rng.normal(size=(len(types), 12))


def test_a_cell_is_asked_of_the_half_that_its_patient_is_not_in():
    types, groups, values = cells()
    seen: list[int] = []

    def ends(rows):
        seen.extend(rows)
        return values[rows]

    probe = fit_probe(types, ends, groups=groups)
    assert probe.accuracy > 0.9
    assert probe.cells == len(set(seen)) == 120  # 20 of each of three types in each half
    for name in set(groups):
        assert len({int(probe.half_of[row]) for row, group in enumerate(groups) if group == name}) == 1
    for row in (0, 60, 140):
        half = probe.unseen(row)
        assert half is probe.halves[1 - probe.half_of[row]]
        assert probe.types[int(half.probabilities(values[[row]]).argmax())] == types[row]


def test_types_that_are_no_types_are_told_by_chance():
    types, groups, values = cells(patients=20)
    dealt = np.random.default_rng(1).permutation(types).tolist()
    assert fit_probe(dealt, lambda rows: values[rows], groups=groups).accuracy < 0.55


def test_the_order_of_rows_that_are_read_does_not_matter_to_types():
    types, _, values = cells(of=2)
    assert fit_probe(types, lambda rows: values[rows]).accuracy > 0.9


@pytest.mark.parametrize("types", [[None] * 40, ["blast"] * 40, ["blast"] * 30 + ["monocyte"] * 3])
def test_too_few_labels_are_said_in_a_sentence(types):
    with pytest.raises(InputError, match=r"no probe of the cell type.*of 3|no probe of the cell type.*of 4"):
        fit_probe(types, lambda rows: np.zeros((len(rows), 2)))

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.cohort.classification.leaks import refuse_shared_cells
from cytosae.common.errors import InputError


def test_image_under_two_patients_is_named():
    cells = pd.DataFrame({"cell_id": ["aa", "bb", "aa", "cc"], "patient": ["P1", "P1", "P2", "P2"]})
    with pytest.raises(InputError, match="the image aa stands under the patients 'P1' and 'P2'"):
        refuse_shared_cells(cells)


def test_image_twice_under_one_patient_is_no_leak():
    refuse_shared_cells(pd.DataFrame({"cell_id": ["aa", "aa", "bb"], "patient": ["P1", "P1", "P2"]}))


def test_same_picture_in_another_file_is_found_by_its_tokens():
    cells = pd.DataFrame({"patient": ["P1", "P2", "P3"]}, index=["aa", "bb", "cc"])
    tokens = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    refuse_shared_cells(cells, tokens=tokens)
    tokens[2] = tokens[0]
    with pytest.raises(InputError, match="the picture aa stands under the patients 'P1' and 'P3'"):
        refuse_shared_cells(cells, tokens=tokens)


def test_blank_stand_ins_are_no_pictures():
    cells = pd.DataFrame({"patient": ["P1", "P2"]}, index=["aa", "bb"])
    refuse_shared_cells(cells, tokens=np.zeros((2, 5), np.float32))

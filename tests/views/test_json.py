"""Every view is plain data: strict JSON and back, without pictures, markup or paths."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass

import pytest
from views.view_fixtures import EVIL

from cytosae.common.configuration import from_plain, to_plain

VIEWS = ("study_view", "atlas_view", "comparison_view", "image_view", "suppression_view", "pairs_view", "names_view")
VIEWS += ("cohort_view", "disease_view", "patient_view", "validation_view")


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_becomes_strict_json_and_comes_back_the_same(name, request):
    view = request.getfixturevalue(name)
    document = json.dumps(to_plain(view), allow_nan=False)
    assert from_plain(type(view), json.loads(document)) == view


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_holds_no_picture_no_markup_and_no_path(name, request, shared, datasets):
    document = json.dumps(to_plain(request.getfixturevalue(name)), ensure_ascii=False).replace(EVIL, "")
    for words in ("data:image", "base64", "<svg", "<img", "</", "&lt;"):
        assert words not in document.replace("<b>broken</b>", "")
    for opened in (shared.dataset, *datasets):
        assert str(opened.cells.root) not in document


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_frozen_to_its_leaves(name, request):
    def leaves(value):
        if is_dataclass(value):
            assert type(value).__dataclass_params__.frozen
            for field in fields(value):
                leaves(getattr(value, field.name))
        elif isinstance(value, tuple):
            for one in value:
                leaves(one)
        else:
            assert value is None or type(value) in (str, int, float, bool), type(value)

    leaves(request.getfixturevalue(name))

from __future__ import annotations

import pytest
from atlas.stub_chain import make_chain


@pytest.fixture
def chain():
    return make_chain()

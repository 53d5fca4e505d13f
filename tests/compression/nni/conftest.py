"""Skips the tests below where NNI is not installed; `pip install 'fer-nas[nni]'` runs them."""

import pytest

from nas.compression.nni import adapter
from nas.errors import MissingPackageError


@pytest.fixture(autouse=True)
def installed() -> None:
    try:
        adapter.require_nni()
    except MissingPackageError as error:
        pytest.skip(str(error))

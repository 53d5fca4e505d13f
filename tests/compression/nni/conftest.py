"""All tests below need NNI; `pip install 'fer-nas[nni]'`."""

import pytest

from nas.compression.nni import adapter as _nni
from nas.errors import MissingPackageError


@pytest.fixture(autouse=True)
def installed() -> None:
    try:
        _nni.require_nni()
    except MissingPackageError as error:
        pytest.skip(str(error))

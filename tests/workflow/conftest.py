import pytest
from checkout import Checkout, copy_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smoke study has run once."""
    checkout = copy_project(tmp_path_factory.mktemp("finished"))
    result = checkout.snakemake("--quiet", "rules")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout

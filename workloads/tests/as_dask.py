"""A pytest plugin: joblib's name "dask" stands for our backend in joblib's own tests of its Dask backend."""

# What joblib's own configuration of pytest gives its tests; that is not part of the package.
from distributed.utils_test import cleanup, loop, loop_in_thread  # noqa: F401
from joblib import register_parallel_backend


def pytest_collection_finish() -> None:
    # Not before: on import, joblib's tests make one of each backend that is registered, without a client.
    from tritoncluster.balance import BalancedBackend

    register_parallel_backend("dask", BalancedBackend)

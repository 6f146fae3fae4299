"""One thread of torch for each test process, and no network: set before torch is imported. One Ray for all tests."""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}.items():
    os.environ.setdefault(name, value)


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell starts what runs in the background: tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What tests trust is not written to the user's own folder of configuration.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="popgen-config-")


def start_ray() -> None:
    import ray  # takes a second, and most test files do not need it

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A running Ray of two CPUs, started once for each test process; its address."""
    import ray

    start_ray()
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture
def no_ray() -> Iterator[None]:
    """No Ray in this process, for what starts or joins its own."""
    import ray

    was_up = ray.is_initialized()
    ray.shutdown()
    yield
    ray.shutdown()
    if was_up:
        start_ray()

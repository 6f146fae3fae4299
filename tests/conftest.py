"""One thread of torch for each test process, and no network: set before torch is imported."""

import os

for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}.items():
    os.environ.setdefault(name, value)

"""Measurements that others can run again: `python -m benchmarks.build --help`."""

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"  # before any library reads it: what is measured is a core

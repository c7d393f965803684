"""Uneven workers, used to the full: a joblib backend and a map.

Importing this package registers the backend: `joblib.parallel_config("balanced")`.
"""

from tritoncluster.balance.arguments import Call
from tritoncluster.balance.broadcast import Sharing
from tritoncluster.balance.choice import only_workers
from tritoncluster.balance.joblib import BalancedBackend, register
from tritoncluster.balance.mapping import balanced_map
from tritoncluster.balance.outcomes import Result
from tritoncluster.balance.summary import Share, Summary, observed

__all__ = [
    "BalancedBackend",
    "Call",
    "Result",
    "Share",
    "Sharing",
    "Summary",
    "balanced_map",
    "observed",
    "only_workers",
]

register()

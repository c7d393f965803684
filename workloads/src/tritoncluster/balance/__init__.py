"""Uneven workers, used to the full: a joblib backend and a map.

Importing this package registers the backend: `joblib.parallel_config("balanced")`.
"""

from tritoncluster.balance.joblib import BalancedBackend, register
from tritoncluster.balance.mapping import balanced_map
from tritoncluster.balance.pieces import Call, Sharing
from tritoncluster.balance.run import Result
from tritoncluster.balance.summary import Share, Summary, observed

__all__ = ["BalancedBackend", "Call", "Result", "Share", "Sharing", "Summary", "balanced_map", "observed"]

register()

"""The same job on growing sets of the cluster's machines: what each of them brings.

The set grows from the slowest machine to all, as in the study of the poster. Workers that are left out get neither
calls nor data.
"""

from tritoncluster.scale.machines import Machine
from tritoncluster.scale.scaling import Scaling
from tritoncluster.scale.steps import Step
from tritoncluster.scale.study import scale

__all__ = ["Machine", "Scaling", "Step", "scale"]

"""The table of faults: one formula each, by file from the bottom of the package to its top.

Beside each stand the smallest tests that hold what its file says.
"""

from . import data, denoisers, exports, noise, scores, solvers, teacher, training

FAULTS = (
    *noise.FAULTS,
    *solvers.FAULTS,
    *denoisers.FAULTS,
    *data.FAULTS,
    *teacher.FAULTS,
    *training.FAULTS,
    *scores.FAULTS,
    *exports.FAULTS,
)

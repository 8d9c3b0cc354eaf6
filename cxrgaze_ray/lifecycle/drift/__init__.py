"""How far two samples of one feature lie apart, and how far chance alone would bring them: NumPy in, dataclasses out.

Every comparison has an effect, which says how large a change is, and a noise bound, which says how large an effect two
samples of one population reach by chance. A change matters if its effect is beyond both a threshold and the noise.

Images of one patient are alike, so a sample is as large as the number of its patients, not of its images: see
`effective_patients`.
"""

from cxrgaze_ray.lifecycle.drift.bins import OTHER, category_shift, number_shift
from cxrgaze_ray.lifecycle.drift.effects import Difference, Drop, Patients, Shift, effective_patients, rate_difference

__all__ = [
    "OTHER",
    "Difference",
    "Drop",
    "Patients",
    "Shift",
    "category_shift",
    "effective_patients",
    "number_shift",
    "rate_difference",
]

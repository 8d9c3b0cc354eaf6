"""How far apart two samples of one feature are, and how far chance alone can bring them: NumPy in, dataclasses out.

Every comparison has an effect, the size of a change, and a noise bound, the size of the effect that two
samples of one population reach by chance. A change matters if its effect is beyond both a threshold and the noise.

Images of one patient are alike, so the size of a sample is its number of patients, not of images: see
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

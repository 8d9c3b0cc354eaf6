"""Whether a candidate may replace the champion: `judge` on predictions for the same images, by a policy, with reasons.

`compare` bounds the difference of the two by `evaluation.statistics`; `criteria` and `checks` give verdicts,
`presentation` makes the table that people see.
"""

from cxrgaze_ray.evaluation.gate.judge import judge, spent
from cxrgaze_ray.evaluation.gate.presentation import COLUMNS, GateRow, gate_rows
from cxrgaze_ray.evaluation.gate.report import Criterion, GateOutcome, GateReport
from cxrgaze_ray.evaluation.gate.settings import GateSettings, ModelFacts, Superiority

__all__ = [
    "COLUMNS",
    "Criterion",
    "GateOutcome",
    "GateReport",
    "GateRow",
    "GateSettings",
    "ModelFacts",
    "Superiority",
    "gate_rows",
    "judge",
    "spent",
]

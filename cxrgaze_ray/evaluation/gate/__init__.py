"""Whether a candidate may replace the champion: `judge` decides by a policy, on predictions for the same images.

`compare` bounds their difference with `evaluation.statistics`; `criteria` and `checks` give verdicts and reasons,
`presentation` makes the table that people see.
"""

from cxrgaze_ray.evaluation.gate.judge import judge, spent
from cxrgaze_ray.evaluation.gate.presentation import COLUMNS, GateRow, gate_rows, left_out
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
    "left_out",
    "spent",
]

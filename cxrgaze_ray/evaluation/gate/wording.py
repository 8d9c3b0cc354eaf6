"""Sentences that state a comparison's findings."""

from __future__ import annotations

from cxrgaze_ray.evaluation.gate.compare import PairedDifference
from cxrgaze_ray.evaluation.statistics import lower_is_better
from cxrgaze_ray.evaluation.table import Target

NAMES: dict[Target, str] = {
    "auc_macro": "Macro AUC",
    "auc_normal": "AUC of normal",
    "auc_heart_failure": "AUC of heart failure",
    "auc_pneumonia": "AUC of pneumonia",
    "accuracy": "Accuracy",
    "ece": "Calibration error",
    "cc": "Saliency CC",
    "hs": "Saliency HS",
    "nss": "Saliency NSS",
    "sauc": "Saliency's shuffled AUC",
}


def observed(paired: PairedDifference, subgroup: str | None) -> str:
    """Say what the images show: `Macro AUC of sex=F is 0.012 lower`."""
    name = NAMES[paired.target] + (f" of {subgroup}" if subgroup else "")
    return f"{name} is {_by(paired.gain, paired.target)}"


def at_worst(paired: PairedDifference, alpha: float) -> str:
    """Say how bad it may be: `with 95% confidence not more than 0.019 lower`."""
    limit = "at least" if paired.least_gain >= 0 else "not more than"
    return f"with {_confidence(alpha)} confidence {limit} {_by(paired.least_gain, paired.target)}"


def at_best(paired: PairedDifference, alpha: float) -> str:
    """Say how good it may be: `with 95% confidence at least 0.013 lower`."""
    limit = "at least" if paired.most_gain < 0 else "not more than"
    return f"with {_confidence(alpha)} confidence {limit} {_by(paired.most_gain, paired.target)}"


def _by(gain: float, target: Target) -> str:
    better, worse = ("lower", "higher") if lower_is_better(target) else ("higher", "lower")
    return f"{abs(gain):.3f} {better if gain >= 0 else worse}"


def _confidence(alpha: float) -> str:
    return f"{100 * (1 - alpha):.4g}%"

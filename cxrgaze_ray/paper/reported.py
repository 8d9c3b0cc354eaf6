"""What the paper reports (Qiu, Rivaz, Xiao; Med Phys 2025, doi 10.1002/mp.17977), to be printed beside our figures."""

from __future__ import annotations

from typing import Literal

from cxrgaze_ray.models.settings import System

OURS: System = "gazenet"
"""The system that the paper proposes, and that every other one is compared with."""

TITLES: dict[System, str] = {
    "gazenet": "GazeNet (ours)",
    "mt-unet": "MT-UNet",
    "dnet201-cl": "DNet201-CL",
    "dnet201": "DNet201",
    "inception-resnet-v2": "Inception-ResNet-v2",
    "gazegnn": "GazeGNN",
    "res-se-unet": "Res_SE-UNet",
    "unet-s": "UNet_S",
}
"""Systems in the order of the paper's tables, as they are printed."""

Measure = Literal[
    "auc_normal", "auc_heart_failure", "auc_pneumonia", "auc_macro", "auc_micro", "accuracy", "kl", "cc", "hs", "nss",
    "sauc",
]  # fmt: skip

TABLE_1: dict[System, dict[Measure, float]] = {
    "gazenet": {
        "auc_normal": 0.953, "auc_heart_failure": 0.927, "auc_pneumonia": 0.894, "auc_macro": 0.925, "accuracy": 0.800,
    },
    "mt-unet": {
        "auc_normal": 0.935, "auc_heart_failure": 0.881, "auc_pneumonia": 0.687, "auc_macro": 0.847, "accuracy": 0.640,
    },
    "dnet201-cl": {
        "auc_normal": 0.961, "auc_heart_failure": 0.865, "auc_pneumonia": 0.859, "auc_macro": 0.889, "accuracy": 0.750,
    },
    "dnet201": {
        "auc_normal": 0.964, "auc_heart_failure": 0.897, "auc_pneumonia": 0.849, "auc_macro": 0.880, "accuracy": 0.690,
    },
    "inception-resnet-v2": {
        "auc_normal": 0.878, "auc_heart_failure": 0.873, "auc_pneumonia": 0.602, "auc_macro": 0.794, "accuracy": 0.600,
    },
    "gazegnn": {
        "auc_normal": 0.899, "auc_heart_failure": 0.881, "auc_pneumonia": 0.823, "auc_macro": 0.868, "accuracy": 0.730,
    },
}  # fmt: skip
"""Diagnosis. The paper's row AUC mixes macro and micro averages; it stands beside our macro AUC."""

TABLE_2: dict[System, dict[Measure, tuple[float, float]]] = {
    "gazenet": {"kl": (0.706, 0.183), "cc": (0.576, 0.113), "hs": (0.552, 0.055)},
    "mt-unet": {"kl": (0.747, 0.185), "cc": (0.545, 0.109), "hs": (0.535, 0.055)},
    "res-se-unet": {"kl": (0.747, 0.193), "cc": (0.560, 0.108), "hs": (0.539, 0.058)},
    "unet-s": {"kl": (0.781, 0.202), "cc": (0.531, 0.109), "hs": (0.527, 0.056)},
}
"""Saliency: mean and standard deviation over images."""


def reported(system: System, measure: Measure) -> str:
    """Return what the paper prints for a system, empty where it prints nothing."""
    if measure in TABLE_1.get(system, {}):
        return f"{TABLE_1[system][measure]:.3f}"
    if measure in TABLE_2.get(system, {}):
        mean, deviation = TABLE_2[system][measure]
        return f"{mean:.3f} ± {deviation:.3f}"
    return ""

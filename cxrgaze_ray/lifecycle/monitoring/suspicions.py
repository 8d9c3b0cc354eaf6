"""Name what the alerts look like together: a drift has a signature; its consequences are not drifts of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cxrgaze_ray.lifecycle.monitoring.report import Finding, SuspectedDrift, Suspicion

_DEVICE = frozenset(
    {"manufacturer", "device_model", "bits_stored", "transfer_syntax", "photometric", "rows", "columns"}
)
_POLARITY = "photometric_check=disagrees"

_SENTENCES: dict[SuspectedDrift, str] = {
    "polarity": "More pictures look inverted than their tags say: a device or an export may have changed polarity.",
    "site": "The files come from other devices or encodings than before: a site, a scanner or an export may be new.",
    "exposure": "Images are brighter, darker or of another contrast, though the files do not name another device: "
    "exposure or processing may have changed.",
    "prevalence": "The model answers other classes than before, while files and pictures look as they did: the "
    "patients, or their selection, may have changed.",
    "quality": "The shares of files refused, skipped or without tags have changed: look at the reasons.",
    "performance": "Against the labels that have arrived, the model is worse than it was.",
    "unknown": "Something has changed that fits none of the known patterns: look at the features.",
}


def suspect(findings: Iterable[Finding]) -> tuple[Suspicion, ...]:
    """Return what the alerts look like; an alert that another one explains is named with it, and only once.

    Inverted pictures explain changed intensities; another site explains them too, and changed views and ages; each
    explains changed scores, predictions and maps. Only if files and pictures look as before do changed predictions
    point to other patients.
    """
    rest = [finding for finding in findings if finding.status == "alert"]
    suspicions: list[Suspicion] = []

    def take(drift: SuspectedDrift, *signs: Callable[[Finding], bool]) -> bool:
        """Name a drift if the first sign is there; take what it and the other signs explain."""
        if not any(signs[0](alert) for alert in rest):
            return False
        taken = [alert for alert in rest if any(sign(alert) for sign in signs)]
        rest[:] = [alert for alert in rest if alert not in taken]
        suspicions.append(Suspicion(drift=drift, features=_names(taken), sentence=_SENTENCES[drift]))
        return True

    take("performance", _of("performance"))
    cause = take("polarity", _inverted, _of("intensity"), _of("scores", "predictions", "saliency"), _photometric)
    cause |= take("site", _device, _of("acquisition", "intensity"), _of("scores", "predictions", "saliency"))
    cause |= take("exposure", _of("intensity"), _of("scores", "predictions", "saliency"))
    if not cause:
        take("prevalence", _of("predictions", "scores"), _of("saliency"))
    take("quality", _of("outcomes"))
    take("unknown", lambda _: True)
    return tuple(suspicions)


def _of(*families: str) -> Callable[[Finding], bool]:
    return lambda finding: finding.family in families


def _inverted(finding: Finding) -> bool:
    return finding.feature == _POLARITY and (finding.effect or 0) > 0


def _photometric(finding: Finding) -> bool:
    return finding.feature == "photometric"


def _device(finding: Finding) -> bool:
    return finding.family == "acquisition" and finding.feature in _DEVICE


def _names(findings: Sequence[Finding]) -> tuple[str, ...]:
    names = [f"{finding.feature} ({finding.subgroup})" if finding.subgroup else finding.feature for finding in findings]
    return tuple(dict.fromkeys(names))

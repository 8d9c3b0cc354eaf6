"""Verdicts on two models' answers: no worse, better where the policy asks for it, no subgroup harmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cxrgaze_ray.evaluation.gate import wording
from cxrgaze_ray.evaluation.gate.compare import Pair, PairedDifference, compare
from cxrgaze_ray.evaluation.gate.report import Criterion, Rule, Verdict
from cxrgaze_ray.evaluation.gate.settings import GateSettings
from cxrgaze_ray.evaluation.table import Target, answer_of

_TOO_FEW = "too few patients to tell"


def non_inferiority(pair: Pair, target: Target, margin: float, alpha: float) -> Criterion:
    """Judge whether the candidate is worse than the champion by no more than a margin.

    - pass: the bound shows it, at confidence 1 - alpha.
    - fail: the images show a loss beyond the margin, and the other bound shows that the candidate is worse at all.
    - cannot tell: neither, or a bound is undefined.

    So a candidate whose true loss equals the margin passes in about a share alpha of all test sets, and a worse one in
    fewer, however few patients there are: fewer patients make the bound wider.
    `tests/unit/evaluation/test_gate_simulations.py` measures it.
    """
    paired = compare(pair, target, alpha)
    if np.isnan(paired.least_gain):
        return _undefined(paired, "non_inferiority", margin)
    said, limit = wording.observed(paired, None), f"the margin of {margin:g}"
    if paired.least_gain > -margin:
        why = f"{said}; {wording.at_worst(paired, alpha)}: within {limit}."
        return _row(paired, "non_inferiority", margin, "pass", why)
    if paired.gain < -margin and paired.most_gain < 0:
        why = f"{said}, beyond {limit}; {wording.at_best(paired, alpha)}: worse."
        return _row(paired, "non_inferiority", margin, "fail", why)
    why = f"{said}; {wording.at_worst(paired, alpha)}, beyond {limit}: {_TOO_FEW}."
    return _row(paired, "non_inferiority", margin, "cannot_tell", why)


def calibration(pair: Pair, settings: GateSettings) -> Criterion:
    """Judge the calibration error by the policy's rule: see `guards` and `non_inferiority`.

    With a few hundred patients, chance alone moves it by more than the margin: proof that it did not rise takes
    thousands, so a guard is the default.
    """
    known = pair.labelled()
    if settings.ece_rule == "non_inferiority":
        return non_inferiority(known, "ece", settings.ece_margin, settings.alpha)
    return _guard(known, "ece", None, settings.ece_margin, settings.alpha)


def saliency(pair: Pair, settings: GateSettings) -> Criterion:
    """Judge the mean correlation with gaze, over images that somebody looked at: see `non_inferiority`.

    Not applicable if fewer than `least_patients` patients have gaze, or the champion predicts none or its maps are all
    constant: then nothing could be worse.
    """
    seen = pair.seen()
    patients = seen.patients
    if "saliency" not in pair.champion.predicts:
        why = "The champion predicts no saliency."
    elif patients < settings.least_patients:
        why = f"{patients} patients have gaze; {settings.least_patients} are needed to judge saliency."
    elif np.isnan(seen.champion.scores("cc")[seen.places_N]).all():
        why = "The champion's saliency has no correlation with gaze: it is constant on every image."
    else:
        return non_inferiority(seen, "cc", settings.cc_margin, settings.alpha)
    return Criterion(
        name="cc", rule="non_inferiority", margin=settings.cc_margin, verdict="not_applicable",
        patients=patients, images=len(seen), why=why,
    )  # fmt: skip


def centre_bias(pair: Pair, settings: GateSettings) -> Iterator[Criterion]:
    """Judge whether the candidate's maps know more of an image than where readers look in general.

    The centre-bias baseline answers every image with the training split's mean gaze map. Its CC is respectable, and a
    sharper or wider one may have a better CC still; so the measure is shuffled AUC, which is 0.5 for any map that is
    the same for all images, and does not change with a map's levels.

    - pass: the bound shows a gain over the baseline beyond the margin, at confidence 1 - alpha.
    - fail: there is no gain at all, or the other bound shows that it is within the margin.
    - cannot tell: neither.
    - not applicable: fewer than `least_patients` patients have gaze, or the baseline is not known for as many.
    """
    if (margin := settings.centre_bias_margin) is None or "saliency" not in pair.candidate.predicts:
        return
    beside = replace(pair, champion=pair.candidate.centre()).seen()
    beside = beside.take(~np.isnan(beside.champion.scores("sauc")[beside.places_N]))
    if (patients := beside.patients) < settings.least_patients:
        yield Criterion(
            name="centre_bias", rule="baseline", margin=margin, verdict="not_applicable", patients=patients,
            images=len(beside), why=_without_baseline(pair.seen().patients, patients, settings.least_patients),
        )  # fmt: skip
        return
    paired = compare(beside, "sauc", settings.alpha)
    said = f"{wording.observed(paired, None)} than the centre-bias baseline's"
    verdict, rest = _beats(paired, margin, settings.alpha)
    yield _row(paired, "baseline", margin, verdict, f"{said}{rest}").model_copy(update={"name": "centre_bias"})


def _beats(paired: PairedDifference, margin: float, alpha: float) -> tuple[Verdict, str]:
    if paired.least_gain > margin:
        return "pass", f"; {wording.at_worst(paired, alpha)}: it knows more than where readers look in general."
    if paired.gain <= 0:
        return "fail", ": the maps know no more than where readers look in general."
    if paired.most_gain < margin:
        return "fail", f"; {wording.at_best(paired, alpha)}, within the margin of {margin:g}: not better."
    return "cannot_tell", f"; {wording.at_worst(paired, alpha)}: {_TOO_FEW}."


def _without_baseline(seen: int, patients: int, least: int) -> str:
    if seen < least:
        return f"{seen} patients have gaze; {least} are needed to judge saliency."
    return (
        f"The centre-bias baseline is known for {patients} patients; {least} are needed. It takes a training split "
        "with gaze, and a store that keeps where readers looked."
    )


def superiority(pair: Pair, settings: GateSettings) -> Iterator[Criterion]:
    """Judge whether the candidate is better on the target that the policy names, if it names one.

    - pass: the bound shows a gain beyond the margin.
    - fail: the other bound shows a loss.
    - cannot tell: neither.
    """
    if (wanted := settings.superiority) is None:
        return
    subgroup = None if wanted.facet is None else f"{wanted.facet}={wanted.value}"
    if not pair.predict(answer := answer_of(wanted.target)):
        yield Criterion(
            name=wanted.target, subgroup=subgroup, rule="superiority", margin=wanted.margin, verdict="cannot_tell",
            why=f"{wording.NAMES[wanted.target]} cannot be compared: not both models predict {answer}.",
        )  # fmt: skip
        return
    chosen = pair.known(wanted.target)
    if wanted.facet is not None:
        chosen = chosen.take(chosen.values(wanted.facet) == wanted.value)
    paired = compare(chosen, wanted.target, settings.alpha)
    if np.isnan(paired.least_gain):
        yield _undefined(paired, "superiority", wanted.margin, subgroup)
        return
    said = f"{wording.observed(paired, subgroup)}; "
    verdict, rest = _better(paired, wanted.margin, settings.alpha)
    yield _row(paired, "superiority", wanted.margin, verdict, said + rest, subgroup)


def _better(paired: PairedDifference, margin: float, alpha: float) -> tuple[Verdict, str]:
    if paired.least_gain > margin:
        return "pass", f"{wording.at_worst(paired, alpha)}: better."
    if paired.most_gain < 0:
        return "fail", f"{wording.at_best(paired, alpha)}: worse, although it should be better."
    return "cannot_tell", f"{wording.at_worst(paired, alpha)}: not shown to be better."


def guards(pair: Pair, settings: GateSettings) -> list[Criterion]:
    """Judge every value of every facet, `not stated` included, by macro AUC over the classes defined there.

    - pass: the images of the subgroup show no loss beyond the margin.
    - fail: they do, and the bound shows real harm, at alpha over the number of subgroups judged (Bonferroni): among
      many subgroups one looks bad by chance.
    - cannot tell: they do, but it may be chance, or the bound is undefined.
    - not applicable: fewer than `subgroup_patients` labelled patients, or images of one class only.

    A guard does not prove that a subgroup is unharmed: with 30 patients no test could. It finds obvious harm.
    """
    known = pair.labelled()
    parts = {
        f"{facet}={value}": known.take(values == value)
        for facet in settings.facets
        for values in [known.values(facet)]
        for value in sorted(set(values.tolist()))
    }
    judged = {name for name, part in parts.items() if _can_be_judged(part, settings)}
    alpha = settings.alpha / max(1, len(judged))
    return [
        _guard(part, "auc_macro", name, settings.subgroup_margin, alpha)
        if name in judged
        else _too_small(part, name, settings)
        for name, part in parts.items()
    ]


def _can_be_judged(part: Pair, settings: GateSettings) -> bool:
    return part.patients >= settings.subgroup_patients and len(np.unique(part.labels())) > 1


def _guard(part: Pair, target: Target, subgroup: str | None, margin: float, alpha: float) -> Criterion:
    paired = compare(part, target, alpha)
    if np.isnan(paired.gain):
        return _undefined(paired, "guard", margin, subgroup)
    said, limit = wording.observed(paired, subgroup), f"the margin of {margin:g}"
    if paired.gain >= -margin:
        return _row(paired, "guard", margin, "pass", f"{said}: within {limit}.", subgroup)
    if paired.most_gain < 0:
        why = f"{said}, beyond {limit}; {wording.at_best(paired, alpha)}: harmed."
        return _row(paired, "guard", margin, "fail", why, subgroup)
    return _row(paired, "guard", margin, "cannot_tell", f"{said}, beyond {limit}, which may be chance.", subgroup)


def _too_small(part: Pair, subgroup: str, settings: GateSettings) -> Criterion:
    patients = part.patients
    few = patients < settings.subgroup_patients
    rest = (
        f"{patients} labelled patients, {settings.subgroup_patients} are needed" if few else "images of one class only"
    )
    return Criterion(
        name="auc_macro", subgroup=subgroup, rule="guard", margin=settings.subgroup_margin, verdict="not_applicable",
        patients=patients, images=len(part), why=f"The subgroup {subgroup} has {rest}.",
    )  # fmt: skip


def _undefined(paired: PairedDifference, rule: Rule, margin: float, subgroup: str | None = None) -> Criterion:
    name = wording.NAMES[paired.target] + (f" of {subgroup}" if subgroup else "")
    if not paired.images:
        why = f"{name} cannot be computed: there is no image for it."
    elif paired.difference is None:
        why = f"{name} is undefined: the images are of one class only."
    else:
        why = f"{name} is undefined in many draws of the patients: a class has too few of them."
    return _row(paired, rule, margin, "cannot_tell", why, subgroup)


def _row(
    paired: PairedDifference, rule: Rule, margin: float, verdict: Verdict, why: str, subgroup: str | None = None
) -> Criterion:
    return Criterion(
        name=paired.target, subgroup=subgroup, rule=rule, champion=paired.champion, candidate=paired.candidate,
        difference=paired.difference, low=paired.low, high=paired.high, margin=margin, verdict=verdict,
        patients=paired.patients, images=paired.images, why=why,
    )  # fmt: skip

"""DICOM Structured Report of one image: TID 1500, unverified and preliminary, without any geometry."""

from __future__ import annotations

from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from cxrgaze_ray.export import concepts
from cxrgaze_ray.export.dicom import MANUFACTURER, MODEL_NAME, DerivedObject, finish
from cxrgaze_ray.export.uids import make_uid
from cxrgaze_ray.radiograph.reading import quiet
from cxrgaze_ray.schemas import CLASSES, RESEARCH_ONLY
from cxrgaze_ray.scoring.runs import RunSpec

SERIES = 9101
"""SeriesNumber: out of the way of what a modality numbers."""


def report_bytes(derived: DerivedObject) -> bytes:
    """Return the file of a report: the probabilities, the most likely class, and what computed them.

    Comprehensive SR, which viewers read that know no Comprehensive 3D SR; it needs no coordinates.
    """
    with quiet():
        evidence = derived.source.evidence()
        document = ComprehensiveSR(
            evidence=[evidence],
            content=_report(derived)[0],
            series_instance_uid=derived.series,
            series_number=SERIES,
            sop_instance_uid=derived.instance,
            instance_number=derived.number,
            series_description=f"cxrgaze report. {RESEARCH_ONLY}",
            is_complete=True,
            is_final=False,
            is_verified=False,
            **derived.equipment,
        )
        return finish(document, derived)


def _report(derived: DerivedObject) -> MeasurementReport:
    report = MeasurementReport(
        observation_context=ObservationContext(_observer(derived.spec)),
        procedure_reported=concepts.PROCEDURE,
        imaging_measurements=[_findings(derived)],
    )
    untrained = "" if derived.spec.model.trained else " The model is untrained: its answers mean nothing."
    comment = f"{RESEARCH_ONLY} Computed by a model, read by nobody.{untrained}"
    report[0].ContentSequence.append(TextContentItem(concepts.COMMENT, comment, relationship_type="CONTAINS"))
    return report


def _observer(spec: RunSpec) -> ObserverContext:
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=make_uid("device", spec.model.weights_sha256),
            name=f"{spec.model.name} {spec.model.version}",
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=spec.model.weights_sha256,
        ),
    )


def _findings(derived: DerivedObject) -> MeasurementsAndQualitativeEvaluations:
    row, source = derived.row, derived.source
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=derived.tracking, identifier="cxrgaze classification"),
        algorithm_id=_algorithm(derived.spec),
        measurements=[
            Measurement(concepts.PROBABILITIES[name], round(float(row[f"p_{name}"]), 6), concepts.NO_UNITS)
            for name in CLASSES
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(concepts.MOST_LIKELY, concepts.FINDINGS[row["prediction"]]),
        ],
        source_images=[SourceImageForMeasurementGroup(source.sop_class, source.sop_instance)],
    )


def _algorithm(spec: RunSpec) -> AlgorithmIdentification:
    """Name the weights, the preprocessing and the engine: what the numbers follow from (TID 4019)."""
    return AlgorithmIdentification(
        name=spec.model.name,
        version=spec.model.version,
        family=concepts.FAMILY,
        manufacturer=MANUFACTURER,
        parameters=[
            f"weights sha256 {spec.model.weights_sha256}",
            f"preprocessing profile {spec.profile}",
            f"engine {spec.engine}",
            f"run {spec.run_id}",
        ],
    )

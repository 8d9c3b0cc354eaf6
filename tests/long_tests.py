"""Which sixth of the long tests a file belongs to: every commit's CI runs one sixth, so that none is left to rot.

``python -m tests.long_tests 8`` prints the files for the eighth commit. A file is not divided, since its tests share
fixtures, a Ray cluster above all. Each sixth takes less than 20 minutes on two cores.
"""

from __future__ import annotations

import sys

SIXTHS: tuple[tuple[str, ...], ...] = (
    (
        "e2e/test_docs_site.py",
        "e2e/test_narrow_pages.py",
        "e2e/test_try_it_page.py",
        "integration/test_soak.py",
        "unit/api/test_model_export.py",
        "unit/evaluation/test_gate_simulations.py",
        "unit/models/test_released.py",
        "integration/test_own_cluster.py",
        "unit/test_packaging.py",
    ),
    (
        "e2e/test_loop.py",
        "integration/test_bench_serve.py",
        "integration/test_deploy.py",
        "integration/test_webhook.py",
        "unit/archive/test_manifest_mimic.py",
        "unit/lifecycle/test_evidence.py",
        "unit/lifecycle/test_monitor_outputs.py",
        "unit/lifecycle/test_retraining.py",
        "unit/training/test_optimisers.py",
        "unit/training/test_training_ranks.py",
    ),
    (
        "integration/test_export.py",
        "integration/test_faults.py",
        "integration/test_logs_and_traces.py",
        "integration/test_nodes.py",
        "integration/test_scoring.py",
        "integration/test_telemetry.py",
        "unit/benchmark/test_network.py",
        "unit/models/engines/test_choice.py",
        "unit/models/engines/test_conversion.py",
        "unit/models/engines/test_folded.py",
        "unit/models/engines/test_sameness.py",
    ),
    (
        "e2e/test_serve_command.py",
        "integration/test_bench.py",
        "integration/test_jobs.py",
        "integration/test_private_cluster.py",
        "integration/test_sockets.py",
        "integration/test_tables.py",
        "unit/benchmark/test_benchmark.py",
        "unit/benchmark/test_soak.py",
        "unit/cli/test_cli.py",
        "unit/evaluation/test_centre_bias_simulations.py",
    ),
    (
        "integration/test_prometheus.py",
        "integration/test_retraining.py",
        "integration/test_training_nodes.py",
        "integration/test_training_run.py",
    ),
    (
        "e2e/test_bucket.py",
        "fuzz/test_bombs.py",
        "integration/test_evaluation.py",
        "integration/test_ingest.py",
        "integration/test_ingest_memory.py",
        "integration/test_monitoring.py",
        "integration/test_serving_faults.py",
        "integration/test_triggers.py",
        "storage/test_checkpoints_s3.py",
        "storage/test_retraining_s3.py",
        "unit/benchmark/test_training.py",
        "unit/storage/test_spool.py",
        "unit/training/test_compute.py",
        "unit/training/test_features.py",
        "unit/training/test_progress.py",
        "unit/training/test_rehearsal.py",
        "unit/training/test_resume.py",
        "unit/training/test_training.py",
        "unit/training/test_training_finite.py",
    ),
)
"""Files below `tests/`."""


def files_of(commits: int) -> list[str]:
    """Return the files whose long tests run after so many commits."""
    return [f"tests/{name}" for name in SIXTHS[commits % len(SIXTHS)]]


if __name__ == "__main__":
    print(*files_of(int(sys.argv[1])))

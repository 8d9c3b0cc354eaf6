"""Score an archive: Ray Data reads the plan and decodes, Serve scores, the driver commits shards."""

from cxrgaze_ray.scoring.driver import Outcome, Progress, ScoreSettings, score_archive
from cxrgaze_ray.scoring.estimate import Estimate, estimate

__all__ = ["Estimate", "Outcome", "Progress", "ScoreSettings", "estimate", "score_archive"]

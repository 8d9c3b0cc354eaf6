"""The shard store: archive and gaze joined, decoded and split once, for training and evaluation to read."""

from cxrgaze_ray.shards.ingest import IngestProgress, ingest
from cxrgaze_ray.shards.settings import IngestSettings
from cxrgaze_ray.shards.store import ShardStore, SplitSettings, StoreInfo, split_of

__all__ = ["IngestProgress", "IngestSettings", "ShardStore", "SplitSettings", "StoreInfo", "ingest", "split_of"]

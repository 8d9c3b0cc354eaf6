"""The shard store: archive and gaze joined, decoded and split once, for training and evaluation to read."""

from cxrgaze_ray.shards.ingest import IngestProgress, IngestSettings, ingest
from cxrgaze_ray.shards.store import ShardStore, StoreInfo, split_of

__all__ = ["IngestProgress", "IngestSettings", "ShardStore", "StoreInfo", "ingest", "split_of"]

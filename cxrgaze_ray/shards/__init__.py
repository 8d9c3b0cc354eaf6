"""The shard store: archive and gaze joined, decoded and split once, for training and evaluation to read.

`ingest` makes one, `ShardStore` reads it, `ShardUnion` joins several, and `Trainable` is what a training takes, which
reads single rows through `index_store` and `StoreRows`.
No patient is in two splits. Knows nothing of models.
"""

from cxrgaze_ray.shards.index import StoreIndex, index_store
from cxrgaze_ray.shards.ingest import IngestProgress, ingest
from cxrgaze_ray.shards.rows import ShardReader, StoreRows
from cxrgaze_ray.shards.settings import IngestSettings
from cxrgaze_ray.shards.store import Shard, ShardStore, SplitSettings, StoreInfo, split_of
from cxrgaze_ray.shards.trainable import Trainable
from cxrgaze_ray.shards.union import LabelCount, ShardUnion, label_counts

__all__ = [
    "IngestProgress",
    "IngestSettings",
    "LabelCount",
    "Shard",
    "ShardReader",
    "ShardStore",
    "ShardUnion",
    "SplitSettings",
    "StoreIndex",
    "StoreInfo",
    "StoreRows",
    "Trainable",
    "index_store",
    "ingest",
    "label_counts",
    "split_of",
]

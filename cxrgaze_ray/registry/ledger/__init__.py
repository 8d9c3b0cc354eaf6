"""The ledger of one model's name: numbered entries, each written once and carrying the hash of the one before."""

from cxrgaze_ray.registry.ledger.chain import Ledger
from cxrgaze_ray.registry.ledger.entries import ACCEPTED, MOVES, Chain, Draft, Entry
from cxrgaze_ray.registry.ledger.rules import UNSET, Unset
from cxrgaze_ray.registry.ledger.who import signature

__all__ = ["ACCEPTED", "MOVES", "UNSET", "Chain", "Draft", "Entry", "Ledger", "Unset", "signature"]

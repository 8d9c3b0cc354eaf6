"""Retraining: decide whether to, assemble the data, train, gate, publish, and promote if that is allowed.

Read in this order: `policy` (what a hospital may choose), `decide` (from reports and facts to a decision), `settings`
(the request for a retraining), `data` (stores, and what is new in them), `workspace` (its files on disk, and how it
continues after a crash), `assessment` (what it would do), `evidence` (golden outputs, latency, size), `run` (one step
after the other), `page` and `gauges` (for people and for Prometheus).
"""

from cxrgaze_ray.lifecycle.retraining.assessment import plan_retraining
from cxrgaze_ray.lifecycle.retraining.decide import Action, Decision, Situation, decide
from cxrgaze_ray.lifecycle.retraining.gauges import Textfile
from cxrgaze_ray.lifecycle.retraining.policy import DecidePolicy, Policy, read_policy
from cxrgaze_ray.lifecycle.retraining.run import Hooks, Result, run_retraining
from cxrgaze_ray.lifecycle.retraining.settings import NewData, RetrainSettings, read_retraining

__all__ = [
    "Action",
    "DecidePolicy",
    "Decision",
    "Hooks",
    "NewData",
    "Policy",
    "Result",
    "RetrainSettings",
    "Situation",
    "Textfile",
    "decide",
    "plan_retraining",
    "read_policy",
    "read_retraining",
    "run_retraining",
]

"""The four phases, freeze-staged, in one Ray Train run.

Read in this order: `settings` (what can be chosen), `stages` (what each phase trains, what one of its steps learns
from, and its loss), `feed` (rows to batches), `ranks` (what workers tell each other), `divergence` (stops at values
that are not finite), `loop` (walks the stages; knows nothing of Ray), `checkpoint` (where a killed one resumes),
`initial` (what it starts from), `run` (the only one of these that imports Ray), and `publishing` (train, evaluate,
publish).
"""

"""The four phases, freeze-staged, in one Ray Train run.

Read in this order: `settings` (what can be chosen), `stages` (what each phase trains, and its loss), `feed` (rows to
batches), `loop` (walks the stages; knows nothing of Ray), `checkpoint` (what a killed training goes on from), `run`
(the only module here that imports Ray).
"""

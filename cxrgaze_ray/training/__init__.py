"""The four phases, freeze-staged, in one Ray Train run.

Read in this order: `settings` and `phase_settings` (what can be chosen), `recipes` (what is chosen by default),
`stages` (what each phase trains, what one of its steps learns from, and its loss), `feed` (rows to batches), `augment`
(images and gaze changed at random), `ranks` (what workers tell each other), `optimisers` (what moves the weights, and
how fast), `compute` (how a device computes), `divergence` (stops at values that are not finite), `steps` (of a phase's
epochs), `loop` (walks the phases; knows nothing of Ray), `checkpoint` (where a killed one resumes), `initial` (what it
starts from), `run` (the only one of these that imports Ray), and `publishing` (train, evaluate, publish).
"""

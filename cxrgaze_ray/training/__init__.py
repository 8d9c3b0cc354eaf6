"""The four phases, freeze-staged, in one Ray Train run.

Read in this order: `settings` and `phase_settings` (what can be chosen), `recipes` (what is chosen by default),
`stages` (what each phase trains, what one of its steps learns from, and its loss), `rows` and `feed` (rows to batches),
`ahead` (made before their steps ask), `augment` (images and gaze changed at random), `ranks` (what workers tell each
other), `together` (layers that look at the whole batch), `features` (the cache of what frozen layers make),
`optimisers` (what moves the weights, and how fast), `compute` (how a device computes), `divergence` (stops at values
that are not finite), `steps` (of a phase's epochs), `tally` (what they add up to), `loop` (walks the phases),
`checkpoint` (where a killed one resumes), `keeper` (when one is made, and who writes it), `kept` (those of a training),
and `initial` (what it starts from) know nothing of Ray. On Ray Train are `running` (how many workers, how often saved),
`worker` (one of them), `requests` (for a checkpoint), `board` (what all tell each other), `supervision` (workers lost
or added), `trainer`, `run`, and `publishing` (train, evaluate, publish).
"""

"""The paper's two tables, made again: every system trained, tested on the same images, set beside what was reported.

Read in this order: `reported` (the paper's figures), `plan` (what is to be trained, in which order), `estimate` (how
long that will take), `run` (trains and tests what is not there yet), `cells` (figures, intervals and tests),
`pictures`, `document` (Markdown, CSV and HTML). Knows nothing of serving, monitoring or the gate.
"""

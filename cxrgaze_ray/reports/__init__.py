"""Pages for people: a run's report, the contact sheet, the model card, and the templates of every page.

`pages` turns templates to text; `printable` makes others' text fit for a terminal.
Reads runs, registries and archives; changes none of them.
"""

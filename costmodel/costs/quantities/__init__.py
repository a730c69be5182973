"""Predicted quantities by name: what each is called, its unit, its definition, its formula.

The counterpart of `costmodel.recordings.quantities`, which lists what a profile measures. A new
number in the JSON of a command is one entry here: tables, cards, charts, sweeps, reports and the
page Method read their words and units from it. A dict for each document, keyed by its JSON names:

    step.STEP_QUANTITIES                predict, the rows of compare, the columns of sweep
    requests.REQUEST_QUANTITIES         request
    matches.MATCH_QUANTITIES            match, beside the quantities of a step that it compares
    utilisation.UTILISATION_QUANTITIES  validate: how well a measured step used its GPU
"""

"""Predicted quantities by name: what each is called, its unit, its definition, its formula.

The counterpart of `costmodel.recordings.quantities`, which lists what a profile measures. A new
number in the JSON of a command is one entry here: tables, cards, charts, sweeps, reports and the
page Method read their words and units from it. Each dict is keyed by the names of one document:

    step.STEP                 predict, the rows of compare, the columns of sweep
    requests.REQUEST          request
    matches.MATCH             match, beside the quantities of a step that it sets side by side
    utilisation.UTILISATION   validate: what a measured step achieved
"""

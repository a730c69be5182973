"""The held-out protocol: models drawn at random, committed with the predictor, measured once.

`python -m benchmarks.held_out` draws the models, commits to the predictions, measures, and sums up;
`docs/accuracy.md` tells what came of it.
"""

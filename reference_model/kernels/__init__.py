"""Triton kernels of a model's steps, each of which does what plain PyTorch does in many launches.

A file holds one kernel, or a few of one idea, and the function that launches them; `oracles.py`
states in float64 what each must compute. Nothing here knows models or costs: torch and triton are
the only imports. Without a GPU the kernels run on Triton's interpreter (`TRITON_INTERPRET=1`, set
before triton is imported).

Letters: T new tokens of a step (of a decode step one per sequence), D hidden size, E experts, k of
them a token, I expert width, H query heads, K key-value heads, d head dimension, C slots of the
cache; of latent attention c latent width, r and p elements of a head with and without position, v
of a value, q compressed query. A pair is one token with one of its experts; there are T k of them,
pair p belongs to token p // k.

Matrix products at few tokens put the weights on the side of the matrix unit that is wide (64 rows
of one wgmma) and the tokens on its narrow side: the weights are the work, the tokens ride along.
"""

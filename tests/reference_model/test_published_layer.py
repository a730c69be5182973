"""One UltraMemV2 layer against the authors' public implementation, run in float32 on a CPU.

Each file holds the parameters, an input, intermediates and the output of one layer; `meta_json`
has its sizes. The second layer's ring wraps around the table's end.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from costmodel.layers.ultramem import UltraMem
from reference_model.leaf import Factory
from reference_model.ultramem import UltraMemLayer
from tests.reference_model import memory_oracles
from tests.reference_model.oracles import Choice
from tests.reference_model.tiny import array, arrays, assert_close

FILES = ("ultramemv2_layer_small", "ultramemv2_layer_small_wrap")


@dataclass(frozen=True, kw_only=True)
class Published:
    """The authors' arrays, and our layer with their parameters."""

    of: dict[str, NDArray[Any]]
    meta: dict[str, Any]
    layer: UltraMemLayer

    @property
    def tokens(self) -> Tensor:
        return torch.from_numpy(self.of["input"]).flatten(0, 1)


def config_of(meta: dict[str, Any]) -> UltraMem:
    return UltraMem(
        knum=meta["knum"],
        share_ratio=meta["share_ratio"],
        knn=meta["knn"],
        key_dim=meta["kdim"],
        value_dim=meta["vdim"],
        pre_value_dim=meta["pre_vdim"],
        num_heads=meta["head"],
        tucker_rank=meta["tucker_rank"],
        tucker_cores=meta["tucker_multihead"],
        value_expansion=meta["value_expand_time"],
    )


def ours(of: dict[str, NDArray[Any]], meta: dict[str, Any]) -> dict[str, Tensor]:
    """Their arrays under our names and layouts."""
    theirs = {name: torch.from_numpy(of[name]) for name in of if of[name].dtype.kind in "fi"}
    cores = [theirs[f"tucker_core.{core}"] for core in range(meta["tucker_multihead"])]
    heads_ranks = meta["head"], meta["tucker_rank"]
    return {
        "query.weight": theirs["query_proj.weight"][: 2 * meta["kdim"]],  # the rest is not used
        "query.norm": theirs["query_norm.weight"],
        "retrieve.keys": theirs["keys"].permute(1, 0, 4, 2, 3),  # [H, 2, n, Dk, r] there
        "retrieve.key_norm": theirs["keys_norm.weight"],
        "retrieve.cores": torch.stack(cores),
        "retrieve.permutation": theirs["shuffle_index"],
        "retrieve.u": theirs["tucker_core_u"].view(heads_ranks),
        "retrieve.v": theirs["tucker_core_v"].view(heads_ranks),
        "pre_projection.weight": theirs["pre_values_proj.weight"],
        "pre_values.weight": theirs["full_memory_layer.pre_values_for_look_up"],
        "values.weight": theirs["full_memory_layer.values_for_look_up"],
        "output.weight": theirs["values_proj.weight"],
    }


def loaded(name: str) -> Published:
    path = Path(__file__).parents[1] / "data" / f"{name}.npz"
    with np.load(path) as archive:
        of = dict(archive)
    meta = json.loads(str(of["meta_json"]))
    factory = Factory(
        device=torch.device("cpu"),
        dtype=torch.float32,
        hidden_size=meta["hidden_size"],
        generator=torch.Generator().manual_seed(0),
    )
    layer = UltraMemLayer(
        factory,
        config_of(meta),
        index=meta["layer_id"],
        num_layers=meta["mem_layer_num"],
        tables={},
    )
    layer.load_state_dict(ours(of, meta), strict=True)
    return Published(of=of, meta=meta, layer=layer.requires_grad_(requires_grad=False))


@pytest.fixture(params=FILES)
def published(request: pytest.FixtureRequest) -> Published:
    return loaded(request.param)


def rows_and_scores(rows: NDArray[Any], scores: NDArray[Any]) -> list[list[tuple[int, Any]]]:
    """For each token its rows in order, each with its scores."""
    return [
        sorted(zip(token.tolist(), its.tolist(), strict=True))
        for token, its in zip(rows, scores, strict=True)
    ]


def test_sizes_follow_from_the_configuration(published: Published) -> None:
    retrieve, meta = published.layer.retrieve, published.meta
    assert retrieve.num_keys == meta["key_num"]
    assert retrieve.permutation.numel() == meta["value_num"]
    assert published.layer.values.view.offset == meta["offset"]
    assert published.layer.values.view.table.shape[0] == meta["all_value_num"]


def test_the_wrapping_file_wraps() -> None:
    of = loaded(FILES[1]).of
    assert (of["best_indice"] + 256 >= 512).any()
    assert (of["real_row"] < 256).any()


def test_query_and_keys_are_normalised_as_published(published: Published) -> None:
    query = published.layer.query(published.tokens)
    assert_close(query.flatten(1), published.of["query_normed"][:, 0], 1e-6)
    published.layer.retrieve.fold()
    keys = published.layer.retrieve.keys.permute(1, 0, 3, 4, 2)
    assert_close(keys, published.of["keys_normed"], 1e-6)


def test_the_published_rows_are_selected_with_their_scores(published: Published) -> None:
    rows, scores = published.layer.retrieve(published.layer.query(published.tokens))
    assert_close(scores.sort(1).values, np.sort(published.of["best_scores"], axis=1), 1e-6)
    physical = published.layer.values.view.rows(rows)
    for name, chosen in (("best_indice", rows), ("real_row", physical)):
        got = rows_and_scores(chosen.numpy(), scores.numpy())
        want = rows_and_scores(published.of[name], published.of["best_scores"])
        for mine, its in zip(got, want, strict=True):
            assert [row for row, _ in mine] == [row for row, _ in its], name
            assert_close(np.array([s for _, s in mine]), np.array([s for _, s in its]), 1e-5)


def test_rows_of_the_grid_are_the_published_ones(published: Published) -> None:
    retrieve = published.layer.retrieve
    retrieve.permutation.copy_(torch.arange(retrieve.num_keys**2))
    rows, _ = retrieve(published.layer.query(published.tokens))
    assert rows.sort(1).values.tolist() == np.sort(published.of["best_indice_grid"]).tolist()


@pytest.mark.parametrize("folded", [False, True])
def test_the_output_is_the_published_one(published: Published, *, folded: bool) -> None:
    layer, of = published.layer, published.of
    if folded:
        layer.retrieve.fold()
    assert_close(layer.pre_projection(published.tokens), of["pre_input"], 1e-6)
    rows, scores = layer.retrieve(layer.query(published.tokens))
    weights = layer.pre_values(layer.pre_projection(published.tokens), rows, scores)
    assert_close(layer.values(rows, weights), of["memory_output"], 1e-6)
    got = layer(torch.from_numpy(of["input"]))
    assert float((got - torch.from_numpy(of["output"])).abs().max()) <= 1e-5


def test_our_oracle_agrees_with_the_authors(published: Published) -> None:
    choice, weights, config = Choice(), arrays(published.layer), published.layer.config
    for token, x in enumerate(array(published.tokens)):
        query = memory_oracles.ultramem_query(config, weights, x)
        (retrieved,) = memory_oracles.ultramem_retrieve(config, weights, query, choice)
        grid = published.of["best_indice_grid"][token].tolist()
        assert sorted(one.grid for one in retrieved) == sorted(grid)
        index = published.meta["layer_id"]
        mixed = memory_oracles.ultramem_mixed(config, weights, x, [retrieved], index)
        assert_close(mixed, published.of["memory_output"][token].astype(np.float64), 1e-6)
    assert choice.gap > 1e-4  # so a right float32 implementation selects the same rows


def test_u_and_v_from_the_cores_are_the_published_pair_but_for_the_sign(
    published: Published,
) -> None:
    """The authors keep the sign that their SVD gave; our rule makes the sum of u not negative."""
    retrieve = published.layer.retrieve
    their_u, their_v = retrieve.u.clone(), retrieve.v.clone()
    assert (their_u.sum(-1) < 0).all(), "the pair is loaded as it is: its sign is the authors'"
    retrieve.set_cores(retrieve.cores)
    assert (retrieve.u.sum(-1) > 0).all()
    assert_close(retrieve.u, -their_u, 1e-6)
    assert_close(retrieve.v, -their_v, 1e-6)


def test_the_flipped_pair_selects_other_rows(published: Published) -> None:
    retrieve = published.layer.retrieve
    query = published.layer.query(published.tokens)
    right, _ = retrieve(query)
    retrieve.u.neg_()
    retrieve.v.neg_()
    flipped, _ = retrieve(query)
    shared = [set(a) & set(b) for a, b in zip(right.tolist(), flipped.tolist(), strict=True)]
    assert not any(shared)

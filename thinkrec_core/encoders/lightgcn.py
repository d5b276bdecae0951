"""LightGCN: user and item vectors smoothed over the graph of train likes.

E_{k+1} = D^-1/2 A D^-1/2 E_k with the bipartite adjacency A of likes (a pair that occurs twice weighs two); the final
vectors are the mean of E_0 .. E_layers; interaction = <user, item> (He et al. 2020). E_0 ~ N(0, .1^2).

Shape legend: see `base`; N = U+1 + I+1 nodes (users first), E edges.
"""

from __future__ import annotations

import warnings
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder, normal_table
from thinkrec_core.encoders.examples import Likes, Sizes

INITIAL_STD = 0.1


class LightGCN(Encoder):
    """Layer-wise propagation without weights or non-linearities.

    Args:
        edges_2E: (user_idx, item_idx) of every train like.
        layers: propagation steps.
    """

    edges_2E: Tensor

    def __init__(
        self,
        sizes: Sizes,
        embedding_size: int,
        layers: int,
        edges_2E: Tensor,
        biases: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(sizes, biases)
        self.layers = layers
        self.user_table = normal_table(sizes.users + 1, embedding_size, INITIAL_STD, generator)
        self.item_table = normal_table(sizes.items + 1, embedding_size, INITIAL_STD, generator)
        self.register_buffer("edges_2E", edges_2E)
        self.add_main_effects()
        self._adjacency_NN = _normalised_adjacency(edges_2E, sizes)

    @classmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """See `Encoder.from_config`."""
        return cls(sizes, config.embedding_size, config.layers, likes.edges_2E, config.biases, generator)

    def interaction(self, batch: Batch) -> Tensor:
        """(B,) dot products of the propagated rows."""
        users_Ud, items_Id = self._propagate()
        return (functional.embedding(batch.users_B, users_Ud) * functional.embedding(batch.items_B, items_Id)).sum(-1)

    def user_vectors(self) -> Tensor:
        """(U+1, d) propagated user rows."""
        return self._propagate()[0]

    def item_vectors(self) -> Tensor:
        """(I+1, d) propagated item rows."""
        return self._propagate()[1]

    def _propagate(self) -> tuple[Tensor, Tensor]:
        layer_Nd = torch.cat([self.user_table, self.item_table])
        total_Nd = layer_Nd
        for _ in range(self.layers):
            layer_Nd = _Smooth.apply(self._adjacency_NN, layer_Nd)
            total_Nd = total_Nd + layer_Nd
        users_Ud, items_Id = (total_Nd / (self.layers + 1)).split([self.sizes.users + 1, self.sizes.items + 1])
        return users_Ud, items_Id


class _Smooth(torch.autograd.Function):
    """A @ x for a constant symmetric sparse A: the gradient is A @ g, without PyTorch's own sparse transpose."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, adjacency: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(adjacency)
        return adjacency @ values

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[None, Tensor]:
        (adjacency,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return None, adjacency @ gradients[0]


def _normalised_adjacency(edges_2E: Tensor, sizes: Sizes) -> Tensor:
    """(N, N) sparse D^-1/2 A D^-1/2; nodes without edges have empty rows."""
    nodes = sizes.users + sizes.items + 2
    users_E, items_E = edges_2E[0].long(), edges_2E[1].long() + sizes.users + 1
    rows, columns = torch.cat([users_E, items_E]), torch.cat([items_E, users_E])
    degree_N = torch.bincount(rows, minlength=nodes).to(torch.float32)
    scale_N = torch.where(degree_N > 0, degree_N.clamp(min=1).rsqrt(), torch.zeros(()))
    weights = scale_N[rows] * scale_N[columns]
    # Coalescing adds up the weights of a pair that occurs more than once.
    indices = torch.stack([rows, columns])
    adjacency = torch.sparse_coo_tensor(indices, weights, (nodes, nodes), check_invariants=True).coalesce()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return adjacency.to_sparse_csr()

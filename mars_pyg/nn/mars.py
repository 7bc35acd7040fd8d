"""MARS: the recommender over a HeteroData of users, items and factor values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.dense.linear import Linear

from mars_pyg.kernels import FactorGraph, SparseMatrix
from mars_pyg.modalities import check_features, resolve_modalities, unit_features
from mars_pyg.nn.decoder import SemanticDecoder
from mars_pyg.nn.item_terms import ItemTerms
from mars_pyg.nn.light_gcn import LightGCN
from mars_pyg.nn.losses import MARSLoss, ViewConsistencyLoss
from mars_pyg.nn.mars_conv import MARSConv
from mars_pyg.nn.mars_terms import content_terms
from mars_pyg.nn.view_graphs import factor_graphs, structure_graphs

ITEM_GRAPHS = ("factors+structure", "factors", "structure", "concat", "none")
FUSIONS = ("joint", "mean", "gated")
ITEM_INPUTS = ("features", "id")
SEMANTIC_ITEMS = ("batch", "all")
#: A step predicts the values of so many items of a batch at most.
MAX_SEMANTIC_ITEMS = 2**14


class MARS(LightGCN):
    r"""Semantic factor graphs beside a user–item graph, from the paper *Cross-Modal
    Factor Reasoning with LLMs: Toward Semantic-Structured Generalization for
    Recommendation*.

    .. math::
        s(u, i) = \langle \mathbf{e}_u, \mathbf{e}_i + \mathbf{H}_i \rangle, \qquad
        \mathcal{L} = \mathcal{L}_{\text{rec}} + \lambda \mathcal{L}_{\text{sem}} +
        \eta \mathcal{L}_{\text{view}}

    where :math:`\mathbf{e}` comes out of :class:`LightGCN` over the train interactions
    and :math:`\mathbf{H}` out of :class:`MARSConv` over the items' features and factor
    values. Every modality with features is a view of its own, with the factor graphs of
    its own profiles; the ID view runs over the union of the profiles.

    **Start of training.** A plain projection of content swamps the ID embeddings, for
    two reasons. The L2 regularisation of the embeddings of a triplet does not reach
    :math:`\mathbf{X}`: through :math:`\mathbf{W}_0`, content and IDs escape it, and the
    model overfits. So the rows of :math:`\mathbf{X}` in a triplet are regularised
    beside the embeddings. And an optimiser such as Adam moves each weight by about its
    learning rate, whatever the gradient, so that a step moves :math:`\mathbf{z}_i
    \mathbf{W}_0` by up to :math:`\| \mathbf{z}_i \|_1` times as much as an ID
    embedding: some 16 times for a unit vector of 384 features. So features are centred
    and scaled to :math:`\| \mathbf{z}_i \|_2 = 1 / \sqrt{d_m}`, which bounds
    :math:`\| \mathbf{z}_i \|_1` by 1, and :math:`\mathbf{W}_0` starts as
    :math:`[\mathbf{0}; \mathbf{I}]`: :math:`\mathbf{X}` is at first the ID embedding,
    and content enters as far as the gradient asks for it. On Amazon Baby, validation
    Recall@20 after 60 epochs is .0542 with neither, .0579 with the start alone, .0848
    with the regularisation alone, and .0882 with both
    (``benchmarks/start_of_training.py``).

    The ablations of the paper are arguments: *w/o FP* is :obj:`semantic_weight=0`,
    *w/o CL* is :obj:`view_weight=0`, *w/o MM* is :obj:`modalities=["id"]`, *r/p SG* is
    :obj:`item_graphs="concat"`, *r/p SF* is :obj:`factor_source="clusters"` and
    *w/o SG* is :obj:`item_graphs="none"`.

    Args:
        data (HeteroData): Nodes :obj:`user`, :obj:`item` with features
            :obj:`x_<modality>` ``[N, D]`` (a row of zeros is a missing one) and
            :obj:`value`; edges :obj:`("user", "interacts", "item")`,
            :obj:`("item", "<modality>_value", "value")` and
            :obj:`("item", "similar", "item")`.
        embedding_dim (int, optional): Embedding width :math:`d`. (default: :obj:`64`)
        num_layers (int, optional): Layers of the user–item propagation.
            (default: :obj:`2`)
        num_item_layers (int, optional): Layers of :class:`MARSConv`; the output of one
            is the input of the next. (default: :obj:`1`)
        modalities (Sequence[str], optional): Views to use, :obj:`"id"` among them or
            not; :obj:`None` takes every modality with features, and the ID.
            (default: :obj:`None`)
        item_graphs (str, optional): :obj:`"factors+structure"`, either alone,
            :obj:`"concat"` for :math:`\mathbf{H} = \mathbf{X}`, or :obj:`"none"` for
            :math:`\mathbf{H} = 0`, where the semantic loss reads :math:`\mathbf{e}_i`.
            The structure graph is a content graph, and is left out with
            :obj:`modalities=["id"]`. (default: :obj:`"factors+structure"`)
        item_input (str, optional): :obj:`"features"` for Eq. 5, the concatenated
            features, or :obj:`"id"`: the ID embedding as it is, in which content only
            makes graphs. (default: :obj:`"features"`)
        fusion (str, optional): :obj:`"joint"` runs one convolution over the
            concatenated features and all factors (Eq. 5 to 8), :obj:`"mean"` and
            :obj:`"gated"` merge the views' own outputs. (default: :obj:`"joint"`)
        factor_source (str, optional): :obj:`"profiles"`, or :obj:`"clusters"`: k-means
            clusters of the features in place of the factors, as many and of as many
            values; those of the texts for a modality without features, as columns of
            the catalogue are. (default: :obj:`"profiles"`)
        cooccurrence (bool, optional): Whether the ID view has the graph
            :obj:`("item", "cooccurs", "item")` as its structure graph.
            (default: :obj:`False`)
        semantic_weight (float, optional): :math:`\lambda`. (default: :obj:`0.001`)
        view_weight (float, optional): :math:`\eta`. (default: :obj:`0.01`)
        semantic_items (str, optional): Items whose labels a step predicts:
            :obj:`"batch"`, a sample of 16,384 where a batch has more, or :obj:`"all"`.
            (default: :obj:`"batch"`)
        decoder_hidden_channels (int, optional): Hidden width of the semantic decoder;
            :obj:`None` makes it linear. (default: :obj:`None`)
        regularization (float, optional): See :class:`LightGCN`.
            (default: :obj:`0.01`)
        edge_dropout (float, optional): See :class:`LightGCN`. (default: :obj:`0.0`)
        engine (str, optional): See :func:`~mars_pyg.kernels.factor_propagate`.
            (default: :obj:`"auto"`)

    Raises:
        DataError: If features are not a finite row for each item.
        ValueError: If an argument is unknown or :obj:`data` lacks what it needs.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        modalities: Sequence[str] | None = None,
        item_graphs: str = "factors+structure",
        item_input: str = "features",
        fusion: str = "joint",
        factor_source: str = "profiles",
        cooccurrence: bool = False,
        semantic_weight: float = 0.001,
        view_weight: float = 0.01,
        semantic_items: str = "batch",
        decoder_hidden_channels: int | None = None,
        regularization: float = 0.01,
        edge_dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        super().__init__(data, embedding_dim, num_layers, regularization, edge_dropout)
        for name, value, allowed in (
            ("item_graphs", item_graphs, ITEM_GRAPHS),
            ("item_input", item_input, ITEM_INPUTS),
            ("fusion", fusion, FUSIONS),
            ("factor_source", factor_source, ("profiles", "clusters")),
            ("semantic_items", semantic_items, SEMANTIC_ITEMS),
        ):
            if value not in allowed:
                raise ValueError(
                    f"'{name}' must be one of {list(allowed)} (got {value!r})"
                )
        if num_item_layers < 1:
            raise ValueError(
                f"'num_item_layers' must be positive (got {num_item_layers})"
            )
        if decoder_hidden_channels is not None and decoder_hidden_channels < 1:
            raise ValueError(
                "'decoder_hidden_channels' must be positive "
                f"(got {decoder_hidden_channels})"
            )
        self.modalities = resolve_modalities(data, modalities)
        self.item_graphs = item_graphs
        self.item_input = item_input
        self.fusion = fusion
        self.factor_source = factor_source
        self.semantic_items = semantic_items
        self.loss_sum = MARSLoss(semantic_weight, view_weight)
        self.view_loss = ViewConsistencyLoss()

        for modality in self.content_modalities:
            name = f"x_{modality}"
            x = check_features(data["item"][name], name, self.num_items)
            features = prepare_features(x)
            # Rows of zeros project to zeros: no time and memory for them.
            known = (features != 0).any(dim=1).nonzero().view(-1)
            self.register_buffer(f"x_{modality}", features[known], persistent=False)
            self.register_buffer(f"known_{modality}", known, persistent=False)
        self._graphs["structure"] = structure_graphs(
            data, self.content_modalities, item_graphs, cooccurrence
        )
        self._graphs["factors"] = factor_graphs(
            data, self.modalities, item_graphs, factor_source
        )
        #: The modalities that have a graph, and so a view of their own.
        self.view_modalities = [m for m in self.modalities if self._has_graph(m)]
        has_id = "id" in self.view_modalities and self._needs_views()
        if cooccurrence and not (has_id and item_graphs != "concat"):
            raise ValueError(
                "'cooccurrence' is the graph of the ID's view, which this model does "
                "not have; leave it out, or choose another 'fusion' or a view loss"
            )
        views = ["joint"] if fusion == "joint" else self.view_modalities
        if item_graphs != "none" and not any(map(self._has_graph, views)):
            raise ValueError(
                f"'item_graphs={item_graphs!r}' has no edges to run over: there is "
                f"none among 'modalities={self.modalities}'; choose others, or "
                "'item_graphs' of 'concat' or 'none'"
            )

        union: FactorGraph = self._graphs["factors"]["union"]
        self.decoder = None
        if semantic_weight > 0 and union.num_values > 0:
            self.decoder = SemanticDecoder(
                embedding_dim, union.factor, decoder_hidden_channels
            )
        self.projections = torch.nn.ModuleDict()
        self.convs = torch.nn.ModuleDict()
        for view in self._view_names():
            if item_input == "features":
                self.projections[view] = Linear(
                    self._width(view), embedding_dim, bias=False
                )
            if item_graphs not in ("concat", "none"):
                self.convs[view] = torch.nn.ModuleList(
                    MARSConv(
                        embedding_dim,
                        embedding_dim,
                        union.num_factors,
                        project=False,
                        engine=engine,
                    )
                    for _ in range(num_item_layers)
                )
        self.view_gate = (
            Linear(embedding_dim, 1, bias=False)
            if fusion == "gated" and item_graphs != "none"
            else None
        )
        self.reset_parameters()

    @property
    def content_modalities(self) -> list[str]:
        """The modalities with features, the ID left out."""
        return [modality for modality in self.modalities if modality != "id"]

    def reset_parameters(self) -> None:
        """Draw all parameters anew; see the class for the start of the projections."""
        super().reset_parameters()
        for view in self.projections:
            weight = self._projection_weight(view)
            torch.nn.init.zeros_(weight)
            if view in ("joint", "id") and "id" in self.modalities:
                torch.nn.init.eye_(weight.detach()[:, -self.embedding_dim :])
        for view in self.convs:
            for conv in self._layers(view):
                conv.reset_parameters()
        if self.decoder is not None:
            self.decoder.reset_parameters()
        if self.view_gate is not None:
            self.view_gate.reset_parameters()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the users ``[U, d]`` and the items ``[N, d]``, content included."""
        user, item = super().forward()
        content = self.item_content()
        return user, item if content is None else item + content

    def _has_propagated_users(self) -> bool:
        return type(self).forward is MARS.forward

    def _has_own_items(self) -> bool:
        """Whether a subclass represents its items in another way."""
        kind = type(self)
        parts = (kind.forward, kind.item_content)
        return parts != (MARS.forward, MARS.item_content)

    def item_terms(self) -> ItemTerms:
        """The items, split by their graphs; see :class:`Recommender`."""
        if self.item_graphs == "none" or self._has_own_items():
            return super().item_terms()
        return content_terms(self, *super().forward())

    def item_content(self) -> Tensor | None:
        r"""The items' content representation :math:`\mathbf{H}` ``[N, d]``.

        Returns:
            :obj:`None` with :obj:`item_graphs="none"`.
        """
        if self.item_graphs == "none":
            return None
        if self.fusion == "joint":
            return self._encode("joint", self._input("joint"))
        return self._merge(self.views())

    def views(self) -> dict[str, Tensor]:
        r"""Each view's own representation :math:`\mathbf{H}^m` ``[N, d]``.

        A modality without a graph has none.

        Raises:
            ValueError: If the model has none, as with :obj:`fusion="joint"` and no view
                loss, where nothing would train them.
        """
        if not self._needs_views():
            raise ValueError(
                "the model has no views: with 'fusion=\"joint\"' the view loss alone "
                "would train them; choose another 'fusion', or a 'view_weight' above "
                "zero with 'item_input=\"features\"'"
            )
        return {
            modality: self._encode(modality, self._input(modality))
            for modality in self.view_modalities
        }

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """The three losses of a batch of triplets; see :class:`Recommender`."""
        users, items = super().forward()
        inputs = {view: self._input(view) for view in self._view_names()}
        encoded = {view: self._encode(view, x) for view, x in inputs.items()}
        views = {name: h for name, h in encoded.items() if name != "joint"}
        content = encoded.get("joint")
        if self.fusion != "joint" and views:
            content = self._merge(views)
        final = items if content is None else items + content
        pair = self() if self._has_own_items() else (users, final)
        tables = [self.item_embedding.weight]
        if self.item_input == "features":
            # Else the model escapes the regularisation of the ID embeddings through
            # W_0, and overfits.
            names = ["joint"] if self.fusion == "joint" else self.view_modalities
            tables += [inputs[name] for name in names if name in inputs]
        parts = {"bpr": self._bpr_loss(pair, user, positive, negative, tables)}
        if self.decoder is not None:
            if self.semantic_items == "batch":
                index = torch.cat([positive, negative]).unique()
                if index.numel() > MAX_SEMANTIC_ITEMS:
                    # A sample has the same mean, and bounds the logits of all values.
                    order = torch.randperm(index.numel(), device=index.device)
                    index = index[order[:MAX_SEMANTIC_ITEMS]]
            else:
                index = torch.arange(self.num_items, device=user.device)
            rows = items if content is None else content
            parts["semantic"] = self._semantic_loss(rows, index)
        if self._needs_view_loss():
            parts["view"] = self.view_loss(list(views.values()))
        loss = self.loss_sum(parts["bpr"], parts.get("semantic"), parts.get("view"))
        return {"loss": loss, **parts}

    def _has_graph(self, view: str) -> bool:
        if self.item_graphs == "concat":
            return True
        factors = self._graphs["factors"].get(view, self._graphs["factors"]["union"])
        return view in self._graphs["structure"] or bool(factors.present.any())

    def _needs_view_loss(self) -> bool:
        return (
            self.loss_sum.view_weight > 0
            and len(self.view_modalities) > 1
            and self.item_input == "features"
            and self.item_graphs != "none"
        )

    def _needs_views(self) -> bool:
        if self.item_graphs == "none":
            return False
        return self.fusion != "joint" or self._needs_view_loss()

    def _view_names(self) -> list[str]:
        if self.item_graphs == "none":
            return []
        names = ["joint"] if self.fusion == "joint" else []
        return names + (self.view_modalities if self._needs_views() else [])

    def _width(self, view: str) -> int:
        """The number of features of a view."""
        if view == "id":
            return self.embedding_dim
        if view == "joint":
            return sum(self._width(modality) for modality in self.modalities)
        return self.get_buffer(f"x_{view}").size(1)

    def _input(self, view: str) -> Tensor:
        r"""Eq. 5, :math:`\mathbf{X} = \mathbf{Z} \mathbf{W}_0` ``[N, d]``."""
        if self.item_input == "id":
            return self.item_embedding.weight
        # The ID comes last, as its block of W_0 does.
        names = self.modalities if view == "joint" else [view]
        sizes = [self._width(name) for name in names]
        blocks = self._projection_weight(view).split(sizes, dim=1)
        x: Tensor | None = None
        # The sum over blocks: concatenating would copy all features each step.
        for name, block in zip(reversed(names), reversed(blocks), strict=True):
            x = self._add_projection(x, name, block)
        assert x is not None
        return x

    def _add_projection(self, x: Tensor | None, name: str, weight: Tensor) -> Tensor:
        """Add the projected features of a modality to those of others."""
        linear = torch.nn.functional.linear
        if name == "id":
            return linear(self.item_embedding.weight, weight)
        part = linear(self.get_buffer(f"x_{name}"), weight)
        known = self.get_buffer(f"known_{name}")
        if known.numel() == self.num_items:
            return part if x is None else x + part
        if x is None:
            x = part.new_zeros(self.num_items, part.size(1))
        return x.index_add(0, known, part)

    def _projection_weight(self, view: str) -> Tensor:
        weight = self.projections[view].weight
        assert isinstance(weight, Tensor)
        return weight

    def _layers(self, view: str) -> Iterable[MARSConv]:
        layers = self.convs[view]
        assert isinstance(layers, torch.nn.ModuleList)
        return cast(Iterable[MARSConv], layers)

    def _encode(self, view: str, x: Tensor) -> Tensor:
        r"""Eq. 6 to 8, :math:`\mathbf{H}^m` ``[N, d]``."""
        if self.item_graphs == "concat":
            return x
        graph, structure = self._view_graphs(view)
        for conv in self._layers(view):
            x = conv(x, graph, struct_edge_index=structure)
        return x

    def _view_graphs(self, view: str) -> tuple[FactorGraph, SparseMatrix | None]:
        graphs = self.graphs()
        factors = graphs["factors"].get(view, graphs["factors"]["union"])
        return factors, graphs["structure"].get(view)

    def _merge(self, views: dict[str, Tensor]) -> Tensor:
        stacked = torch.stack(list(views.values()), dim=1)
        if self.view_gate is None:
            return stacked.mean(dim=1)
        return (self.view_gate(stacked).softmax(dim=1) * stacked).sum(dim=1)

    def _semantic_loss(self, content: Tensor, index: Tensor) -> Tensor:
        """The mean loss of some items; one of which nothing is known adds none."""
        assert self.decoder is not None
        graph: FactorGraph = self._graphs["factors"]["union"]
        known = graph.present[index]
        described = known.any(dim=1)
        item = index[described]
        ptr = graph.incidence.ptr.long()
        start, count = ptr[item], ptr[item + 1] - ptr[item]
        row = torch.arange(item.numel(), device=index.device).repeat_interleave(count)
        before = count.cumsum(0) - count
        offset = torch.arange(row.numel(), device=index.device) - before[row]
        value = graph.incidence.col.index_select(0, start[row] + offset).long()
        total = self.decoder.loss(content[item], (row, value), known[described])
        return total / max(index.numel(), 1)


def prepare_features(x: Tensor) -> Tensor:
    r"""Centre the known rows and scale each to :math:`\| \mathbf{z}_i \|_2 =
    1 / \sqrt{D}`.

    Centring takes out the direction that all embeddings of an encoder share, which
    says nothing of an item. Missing rows, all zero, stay so.

    Args:
        x: Features ``[N, D]``, a row of zeros where an item has none.
    """
    return unit_features(x) / max(x.size(1), 1) ** 0.5

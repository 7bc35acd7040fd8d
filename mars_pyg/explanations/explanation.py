"""What an explanation of a score is made of."""

from __future__ import annotations

from dataclasses import dataclass

#: What a reason of each source says; see :class:`Reason`.
WORDS = {
    "collaborative": "what users with similar histories choose",
    "structure": "items with similar content",
    "cooccurrence": "items often chosen together with it",
    "content": "its own content",
    "similar": "items like this new one",
    "popularity": "popularity",
}


@dataclass(frozen=True)
class Reason:
    r"""A part of a score.

    Args:
        source: Where it comes from. Of a recommender: :obj:`"collaborative"`,
            :obj:`"structure"`, :obj:`"cooccurrence"`, :obj:`"factors"`,
            :obj:`"clusters"`, :obj:`"content"` or :obj:`"similar"`, see
            :class:`~mars_pyg.nn.item_terms.Term`. Of a head: its name, such as
            :obj:`"ease"`, :obj:`"affinity"` or :obj:`"popularity"`.
        contribution: What it adds to the score, or, below zero, takes from it.
    """

    source: str
    contribution: float

    def text(self, whose: str = "your") -> str:
        """The reason in words.

        Args:
            whose: How the user is spoken of, :obj:`"your"` or :obj:`"their"`.
                (default: :obj:`"your"`)
        """
        return WORDS.get(self.source, self.source)


@dataclass(frozen=True)
class HistoryReason(Reason):
    r"""What an item of the user's history adds, :math:`\gamma B_{ji}` of
    :class:`~mars_pyg.heads.EASE`.

    Args:
        item: The id of the item of the history.
        title: Its title; empty where it has none.
    """

    item: str
    title: str

    def text(self, whose: str = "your") -> str:
        """See :class:`Reason`."""
        return f"from {whose} history: {self.title or self.item}"


@dataclass(frozen=True)
class FactorReason(Reason):
    r"""What a factor adds: through the user's taste, :math:`\beta_k a_k(u, i)` of
    :class:`~mars_pyg.heads.FactorAffinity` (:obj:`"affinity"`), or through the items
    that share its value, :math:`\alpha_i^{(k)} \langle \mathbf{e}_u, \mathbf{H}_{f_k}
    (i) \rangle` of :class:`~mars_pyg.nn.MARS` (:obj:`"factors"`).

    Args:
        factor: Name of the factor.
        values: Names of the item's values under the factor.
        counts: For each value, how many items of the user's history have it.
        known: How many items of the history have a known value of the factor.
    """

    factor: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    known: int

    def text(self, whose: str = "your") -> str:
        """See :class:`Reason`."""
        named = f"{readable(self.factor)}: {', '.join(self.values)}"
        if self.source != "affinity":
            return f"items that share {named}"
        counts = " and ".join(map(str, self.counts))
        return f"{named}, {counts} of {whose} {self.known}"


@dataclass(frozen=True)
class ClusterReason(Reason):
    """What the items of the same cluster add, where clusters replace the factors.

    Args:
        factor: Number of the clustering, from zero.
    """

    factor: int

    def text(self, whose: str = "your") -> str:
        """See :class:`Reason`."""
        return f"items of the same cluster, clustering {self.factor + 1}"


@dataclass(frozen=True)
class PopularityReason(Reason):
    """What an item's popularity adds.

    Args:
        num_users: Number of users who chose the item in training.
        is_new: Whether the item came after the training, and only counts as if so many
            users had chosen it.
    """

    num_users: int
    is_new: bool = False

    def text(self, whose: str = "your") -> str:
        """See :class:`Reason`."""
        users = "1 user" if self.num_users == 1 else f"{self.num_users} users"
        if self.is_new:
            return f"popularity: new, as if chosen by {users}"
        return f"popularity: chosen by {users}"


@dataclass(frozen=True)
class PartReason(Reason):
    """A part of a head that says nothing more of itself.

    Args:
        part: Name of the part.
    """

    part: str

    def text(self, whose: str = "your") -> str:
        """See :class:`Reason`."""
        return self.part if self.source in self.part else f"{self.source}: {self.part}"


def readable(factor: str) -> str:
    """The name of a factor as people write it."""
    return factor.replace("_", " ")


@dataclass(frozen=True)
class Explanation:
    r"""A score and the reasons that it is the sum of.

    Args:
        user: The user's id.
        item: The item's id.
        title: The item's title; empty where it has none.
        score: The recommender's score of the item for the user.
        reasons: The parts of the score that are not zero, the largest first, whatever
            their sign. Their contributions add up to the score, but for the rounding
            of the recommender's precision.
    """

    user: str
    item: str
    title: str
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Counterfactual:
    """Where an item would stand without one item of the user's history.

    Args:
        item: The id of the item that is recommended.
        without: The id of the item of the history that is taken out.
        without_title: Its title; empty where it has none.
        rank: The place of the recommended item, from one.
        rank_without: Its place without the item of the history.
        score: The score of the recommended item.
        score_without: Its score without the item of the history.
    """

    item: str
    without: str
    without_title: str
    rank: int
    rank_without: int
    score: float
    score_without: float

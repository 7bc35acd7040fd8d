"""A user's taste and what a model does not know, hand-worked."""

import math

import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.explanations.catalogue import Catalogue
from mars_pyg.explanations.gaps import knowledge_gaps
from mars_pyg.explanations.taste import Tastes, ValueTaste
from mars_pyg.user_items import UserItems

TRAIN = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 3), (2, 3), (2, 4), (3, 4)]


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 6
    data["user"].id = list("uvwx")
    data["item"].id = [f"i{place}" for place in range(6)]
    data["item"].title = ["Red mug", "Red cup", "", "Blue mug", "Blue cup", ""]
    data["value"].num_nodes = 4
    data["value"].factor = torch.tensor([0, 0, 1, 1])
    data["value"].name = ["red", "blue", "mug", "cup"]
    data["value"].factor_name = ["color", "type"]
    values = [(0, 0), (0, 2), (1, 0), (1, 3), (3, 1), (3, 2), (4, 1), (4, 3), (4, 2)]
    data["item", "text_value", "value"].edge_index = torch.tensor(values).t()
    data["user", "interacts", "item"].edge_index = torch.tensor(TRAIN).t()
    return data


def test_taste_is_the_lift_over_all_train_interactions(data):
    train = UserItems.from_data(data, "train")
    tastes = Tastes(Catalogue(data), train).of(torch.tensor([0, 1, 2]))
    # Of 8 interactions 7 have a known color, 3 of them red; all 7 a known type: item 4
    # has two, and counts once in the whole.
    color, kind = tastes
    assert (color.factor, color.known) == ("color", 2)
    assert color.values == (ValueTaste("red", 2, 3 / 7, pytest.approx(7 / 3)),)
    assert color.strength == pytest.approx(2 * math.log(7 / 3))
    assert (kind.factor, kind.known, kind.strength) == ("type", 2, 0)
    assert kind.values == (
        ValueTaste("cup", 1, pytest.approx(3 / 7), pytest.approx(7 / 6)),
        ValueTaste("mug", 1, pytest.approx(6 / 7), pytest.approx(7 / 12)),
    )


def test_no_taste_without_history_or_values(data):
    train = UserItems.from_data(data, "train")
    nobody = torch.empty(0, dtype=torch.int64)
    assert Tastes(Catalogue(data), train).of(nobody) == []
    del data["item", "text_value", "value"]
    assert Tastes(Catalogue(data), train).of(torch.tensor([0])) == []


def test_what_is_not_known_is_told(data):
    gaps = knowledge_gaps(
        Catalogue(data),
        history=torch.tensor([0, 2]),
        held_out=torch.tensor([4]),
        recommended=torch.tensor([3, 5, 2]),
    )
    assert gaps == [
        "The model knows this user by 2 items alone: take the list as a first guess.",
        "1 item of the user, kept for validation and test, did not enter the scores.",
        "1 item of the history (2 in all) has no known factor value, which a taste "
        "could be read from.",
        "1 item of the history (2 in all) has no title, and stands under an id.",
        "2 items of the list (3 in all) have no known factor value, which a taste "
        "could be read from.",
        "2 items of the list (3 in all) have no title, and stand under an id.",
        "In the whole catalogue of 6 items, 2 have no known factor value and 2 have "
        "no title.",
    ]
    nothing = torch.empty(0, dtype=torch.int64)
    first = knowledge_gaps(Catalogue(data), nothing, nothing, nothing)[0]
    assert first.startswith("The model knows nothing of this user")
    enough = knowledge_gaps(
        Catalogue(data), torch.tensor([0, 1, 3, 4, 0]), nothing, torch.tensor([1])
    )
    assert len(enough) == 1
    del data["item", "text_value", "value"]
    last = knowledge_gaps(Catalogue(data), nothing, nothing, nothing)[-1]
    assert "6 have no known factor value" in last

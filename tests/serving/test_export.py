"""The best items of all users in files, and exports that are interrupted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
from served_data import make_graph, make_recommender
from torch_geometric.transforms import ToSparseTensor

from mars_pyg import (
    BPR,
    EASE,
    DataError,
    FactorAffinity,
    HeadedRecommender,
    LightGCN,
    load,
    recommend,
)
from mars_pyg.serving import export, top_k
from mars_pyg.serving import folder as export_folder


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("part_users", [7, 60, 150, 1000])
def test_the_files_are_one_dataset_of_what_is_recommended(
    data, recommender, tmp_path, monkeypatch, part_users
):
    monkeypatch.setattr(top_k, "PART_USERS", part_users)
    # Chunks of users that do not fit the parts.
    monkeypatch.setattr("mars_pyg.training.evaluation.MAX_SCORES", 80 * 11)
    export(recommender, data, tmp_path, k=5, progress=False)
    frame = pd.read_parquet(tmp_path / "top_k")
    assert list(frame.columns) == ["user", "item", "rank", "score"]
    expected = recommend(recommender, data, data["user"].id, k=5)
    rows = [
        (user, item.item, rank)
        for user, items in expected.items()
        for rank, item in enumerate(items, start=1)
    ]
    found = frame[["user", "item", "rank"]].itertuples(index=False, name=None)
    assert list(found) == rows
    scores = [item.score for items in expected.values() for item in items]
    assert frame["score"].tolist() == pytest.approx(scores, abs=1e-5)
    assert len(list((tmp_path / "top_k").glob("part-*"))) == -(-150 // part_users)


def test_users_with_few_candidates_get_fewer(tmp_path):
    data = make_graph(num_users=20, num_items=12)
    export(make_recommender(data), data, tmp_path, k=12, progress=False)
    count = pd.read_parquet(tmp_path / "top_k").groupby("user").size()
    expected = recommend(make_recommender(data), data, data["user"].id, k=12)
    assert count.to_dict() == {u: len(items) for u, items in expected.items() if items}


def test_two_exports_do_not_mix_in_one_folder(data, recommender, tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    digest, other = export_folder._digest, BPR(data, embedding_dim=4)

    def interrupted(path):
        # Between the files of one and its manifest the other one would write its own.
        monkeypatch.setattr(export_folder, "_digest", digest)
        with ThreadPoolExecutor() as pool, pytest.raises(DataError, match="another"):
            pool.submit(export, other, data, tmp_path, k=0).result()
        return digest(path)

    monkeypatch.setattr(export_folder, "_digest", interrupted)
    export(recommender, data, tmp_path, k=0)
    assert load(tmp_path).index.width == 8


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_killed_export_goes_on_where_it_was(
    data, recommender, tmp_path, monkeypatch, stop
):
    monkeypatch.setattr(top_k, "PART_USERS", 40)
    monkeypatch.setattr("mars_pyg.training.evaluation.MAX_SCORES", 80 * 16)
    export(recommender, data, tmp_path / "whole", k=5, progress=False)
    write = top_k._write_part
    written = []

    def killed(path, *rest):
        if len(written) == stop:
            path.with_name(f".{path.stem}-x.parquet").write_bytes(b"half a file")
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(top_k, "_write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        export(recommender, data, tmp_path / "killed", k=5, progress=False)
    folder = tmp_path / "killed" / "top_k"
    assert not (folder / "_SUCCESS").exists()
    # Half a file is not read with the others.
    if stop:
        assert len(pd.read_parquet(folder)) <= stop * 40 * 5
    index = (tmp_path / "killed" / "index.pt").read_bytes()
    ranked = []
    score = type(recommender).score
    monkeypatch.setattr(
        type(recommender),
        "score",
        lambda self, user, x: ranked.extend(user.tolist()) or score(self, user, x),
    )
    monkeypatch.setattr(
        top_k,
        "_write_part",
        lambda path, *r: (written.append(path.name), write(path, *r)),
    )
    export(recommender, data, tmp_path / "killed", k=5, progress=False)
    assert ranked == list(range(stop * 40, 150))
    assert written == [f"part-{p:05}.parquet" for p in range(4)]
    for leftover in folder.glob(".*-x.parquet"):
        leftover.unlink()
    assert contents(folder) == contents(tmp_path / "whole" / "top_k")
    assert (tmp_path / "killed" / "index.pt").read_bytes() == index


def test_a_finished_export_is_left_alone(data, recommender, tmp_path, monkeypatch):
    export(recommender, data, tmp_path, k=5, progress=False)
    before = contents(tmp_path)

    def forbidden(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(top_k, "_write_part", forbidden)
    monkeypatch.setattr(torch, "save", forbidden)
    export(recommender, data, tmp_path, k=5, progress=False)
    assert contents(tmp_path) == before


def test_other_exports_are_not_mixed(data, recommender, tmp_path):
    export(recommender, data, tmp_path, k=5, progress=False)
    with pytest.raises(DataError, match="another number of them"):
        export(recommender, data, tmp_path, k=6, progress=False)
    changed = make_recommender(data)
    changed.heads["ease"].weight.data += 1
    renamed = data.clone()
    renamed["item"].title = ["thing"] * 80
    other_features = data.clone()
    other_features["item"].x_text = other_features["item"].x_text + 1
    for other, graph in (
        (changed, data),
        (recommender, renamed),
        (recommender, other_features),
    ):
        with pytest.raises(DataError, match="export of another recommender"):
            export(other, graph, tmp_path, k=5, progress=False)
    with pytest.raises(ValueError, match="'k' must not be negative"):
        export(recommender, data, tmp_path, k=-1)


@pytest.mark.parametrize("name", ["items.parquet", "items.csv", "interactions.tsv"])
def test_a_catalogue_is_not_written_over(data, recommender, tmp_path, name):
    (tmp_path / name).write_text("user,item\n")
    with pytest.raises(DataError, match=f"{name}: the folder holds a catalogue"):
        export(recommender, data, tmp_path, k=5, progress=False)
    assert list(contents(tmp_path).values()) == [b"user,item\n"]


def test_options_beside_the_weights_are_part_of_a_recommender(data, tmp_path):
    def recommender(smoothing=3.0, num_layers=1, model=LightGCN):
        torch.manual_seed(0)
        base = model(data, embedding_dim=4, num_layers=num_layers)
        return HeadedRecommender(base, data, [FactorAffinity(data, smoothing)])

    class Other(LightGCN):
        def forward(self):
            users, items = super().forward()
            return 2 * users, items

    export(recommender(), data, tmp_path, k=2, progress=False)
    for other, message in (
        (recommender(smoothing=0.1), r"heads\.affinity\.smoothing is 3\.0, not 0\.1"),
        (recommender(num_layers=2), r"base\.num_layers is 1, not 2"),
        (recommender(model=Other), "base is 'LightGCN', not '.*Other'"),
    ):
        with pytest.raises(DataError, match=f"another recommender, whose {message}"):
            export(other, data, tmp_path, k=2, progress=False)
    before = contents(tmp_path)
    export(recommender().eval(), data, tmp_path, k=2, progress=False)
    assert contents(tmp_path) == before


def test_exports_of_before_are_served_and_go_on(data, recommender, tmp_path):
    export(recommender, data, tmp_path, k=5, progress=False)
    manifest = json.loads((tmp_path / "index.json").read_text())
    for name in ("options", "approximate"):
        del manifest[name]
    (tmp_path / "index.json").write_text(json.dumps(manifest))
    before = contents(tmp_path)
    assert load(tmp_path).num_items == 80
    export(recommender, data, tmp_path, k=5, progress=False)
    assert contents(tmp_path) == before


def test_an_index_that_is_killed_is_written_again(
    data, recommender, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            export(recommender, data, tmp_path, k=0, progress=False)
    with pytest.raises(DataError, match="no finished export"):
        load(tmp_path)
    export(recommender, data, tmp_path, k=0, progress=False)
    assert load(tmp_path).num_items == 80
    assert not (tmp_path / "top_k").exists()


@pytest.mark.parametrize("name", ["items.parquet", "index.pt"])
def test_a_damaged_export_is_written_again(data, recommender, tmp_path, name):
    def again():
        export(recommender, data, tmp_path, k=0, progress=False)
        return load(tmp_path).recommend(data["user"].id[0])

    expected = again()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="export again"):
        load(tmp_path)
    assert again() == expected
    (tmp_path / name).unlink()
    assert again() == expected


def test_damaged_parts_are_written_again(data, recommender, tmp_path, monkeypatch):
    monkeypatch.setattr(top_k, "PART_USERS", 40)
    export(recommender, data, tmp_path, k=5, progress=False)
    before = contents(tmp_path)
    parts = sorted((tmp_path / "top_k").glob("part-*"))
    parts[1].write_bytes(b"")
    parts[3].write_bytes(parts[3].read_bytes()[:-20])
    export(recommender, data, tmp_path, k=5, progress=False)
    assert contents(tmp_path) == before


def test_scores_that_are_no_numbers_are_refused(data, tmp_path):
    model = BPR(data, embedding_dim=4).requires_grad_(False)
    model.item_embedding.weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="diverged"):
        export(model, data, tmp_path, progress=False)


def test_data_with_train_interactions_alone(data, tmp_path):
    plain = data.clone()
    for name in ("val_edge_index", "test_edge_index"):
        del plain["user", "interacts", "item"][name]
    export(make_recommender(plain), plain, tmp_path, k=3, progress=False)
    user = plain["user"].id[4]
    frame = pd.read_parquet(tmp_path / "top_k")
    items = [r.item for r in load(tmp_path).recommend(user, k=3)]
    assert frame[frame["user"] == user]["item"].tolist() == items


def test_users_of_one_item_each_are_exported(tmp_path):
    data = make_graph(num_users=20, num_items=12)
    store = data["user", "interacts", "item"]
    store.edge_index = torch.stack([torch.arange(20), torch.arange(20) % 12])
    ease = EASE(12, clique_weight=0.0).fit(data)  # nothing speaks for anything
    export(HeadedRecommender(BPR(data), data, [ease]), data, tmp_path, progress=False)
    assert load(tmp_path).recommend(data["user"].id[0], k=3)


def test_a_sparse_graph_is_exported(tmp_path):
    data = make_graph(num_users=20, num_items=12)
    sparse = ToSparseTensor(layout=torch.sparse_csr, fill_cache=False)(data.clone())
    export(make_recommender(sparse), sparse, tmp_path, k=2, progress=False)
    expected = recommend(make_recommender(data), data, ["U03"], k=2)["U03"]
    assert [x.item for x in load(tmp_path).recommend("U03", 2)] == [
        item.item for item in expected
    ]
    # Other interactions are another export.
    matrix = sparse["user", "interacts", "item"].adj_t
    user = matrix.col_indices().clone()
    user[0] = next(u for u in range(20) if u not in user[: matrix.crow_indices()[1]])
    sparse["user", "interacts", "item"].adj_t = torch.sparse_csr_tensor(
        matrix.crow_indices(), user, matrix.values(), matrix.shape
    )
    with pytest.raises(DataError, match="another recommender"):
        export(make_recommender(data), sparse, tmp_path, k=2, progress=False)

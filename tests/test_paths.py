"""The toy as a graph of heads and MLPs, against forward passes that know nothing of edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossseed.ablation import Batch, ablated, means
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.dyck.paths import LOGITS, Edge, Paths, places


def token_set(seed: int, n: int) -> TokenSet:
    tokens = task.sample_train(np.random.default_rng(seed), n, (2, 20))[:, :24]
    labels = task.label(tokens)
    return TokenSet(
        tokens,
        tokens != task.PAD,
        {"depth": labels.depth_nt, "valid": labels.valid_nt},
        np.arange(n),
    )


@pytest.fixture(scope="module")
def graph() -> tuple[DyckSubject, Paths, dict[str, torch.Tensor]]:
    model = DyckTransformer(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    # In double precision, so that differences of losses say what gradients should be.
    subject = DyckSubject(model.double())
    others = token_set(1, 16)
    mean = {
        place: value.double()
        for place, value in means(subject, places(subject), others, np.arange(16)).items()
    }
    batch = Batch(subject, token_set(0, 6), np.arange(6))
    return subject, Paths(subject, batch, mean), mean


def test_the_graph_has_every_edge_and_no_other(graph):
    _, paths, _ = graph
    heads = [p for p in paths.parts if "hook_z" in p]
    # Heads of the first block to its MLP, to heads and MLP of the second; its MLP likewise; all to logits.
    assert len(heads) == 8
    assert len(paths.edges) == 4 + (4 + 1) * 4 + (4 + 1 + 4) + 10
    assert Edge("blocks.0.attn.hook_z.0", "blocks.0.attn.hook_z.1") not in paths.edges


def test_nothing_cut_is_the_model_itself(graph):
    subject, paths, _ = graph
    whole = subject.model(torch.from_numpy(paths.batch.tokens).long())
    expected = paths.batch.scored(list(whole))[0].item()
    assert paths.losses(paths.cut([[]]))[0] == pytest.approx(expected, abs=1e-5)


def test_cutting_all_edges_of_a_writer_is_its_ablation(graph):
    subject, paths, mean = graph
    clean = paths.losses(paths.cut([[]]))[0]
    for place in paths.parts:
        effect = ablated(paths.batch, subject.start(paths.batch.tokens, place), mean[place])
        found = paths.losses(paths.without([[place]]))[0] - clean
        assert found == pytest.approx(effect.measured, abs=1e-5)


def test_cutting_an_edge_changes_what_its_destination_reads_alone(graph):
    subject, paths, mean = graph
    source, destination = "blocks.0.attn.hook_z.2", "blocks.1.attn.hook_z.1"
    writer, reader = (subject.start(paths.batch.tokens, p) for p in (source, destination))
    x = reader.before - writer.written(writer.value_ntd) + writer.written(mean[source])
    expected = paths.batch.losses(reader, reader.reading(x))[0].item()
    found = paths.losses(paths.cut([[Edge(source, destination)]]))[0]
    assert found == pytest.approx(expected, abs=1e-5)
    # The same source's edge to the logits is another measurement.
    other = paths.losses(paths.cut([[Edge(source, LOGITS)]]))[0]
    assert abs(other - found) > 1e-4


def test_gradients_are_those_of_the_loss_and_integrate_to_it(graph):
    _, paths, _ = graph
    step = 1e-5
    n = len(paths.edges)
    gradient = paths.gradients(np.zeros((1, n)))[0]
    moved = np.concatenate([np.eye(n), -np.eye(n)]) * step
    up, down = np.split(paths.losses(moved), 2)
    assert np.allclose(gradient, (up - down) / (2 * step), atol=1e-4)
    points = (np.arange(64) + 0.5) / 64
    edge = 7
    along = points[:, None] * np.eye(n)[edge]
    integral = paths.gradients(along)[:, edge].mean()
    clean, cut = paths.losses(np.stack([np.zeros(n), np.eye(n)[edge]]))
    assert integral == pytest.approx(cut - clean, abs=1e-3)

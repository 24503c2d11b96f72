"""Windows computed beside each other have the scores that they have one after another."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from SaliencyExplain.attribution.incremental.inference import IncrementalInference
from SaliencyExplain.attribution.incremental.parallel_batches import Workers
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from Testing.networks import monai_network, trained
from Testing.waiting import HUNG


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["DenseNet", "ResNet", "SENet"])
def test_the_same_scores_from_two_workers_and_from_one(name):
    network = ScoreNetwork(trained(monai_network(name, 2)))
    image = torch.randn(1, 1, 61, 64)
    inference = IncrementalInference(network, image, (7, 6))
    corners = np.array([[row, column] for row in range(0, 54, 9) for column in range(0, 58, 29)])
    contents = torch.randn(len(corners), 1, 7, 6)
    together = inference.scores(corners, contents)
    torch.set_num_threads(1)
    alone = inference.scores(corners, contents)
    assert (together - alone).abs().max() <= 1e-5 * alone.abs().max()


@pytest.mark.usefixtures("two_threads")
def test_each_worker_has_its_share_of_the_cores_and_gives_it_back():
    workers, seen, meet = Workers(), {}, threading.Barrier(2, timeout=HUNG)

    def work(number):
        meet.wait()  # both run at once, or neither ends
        seen[number] = (threading.get_ident(), torch.get_num_threads())
        return torch.full((1,), float(number))

    found = workers.run([lambda: work(0), lambda: work(1)])
    assert torch.cat(found).tolist() == [0.0, 1.0]
    assert len({thread for thread, _ in seen.values()}) == 2
    assert {cores for _, cores in seen.values()} == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_one_comes_out_after_all_have_ended():
    workers, ended, failed = Workers(), [], threading.Event()

    def fails():
        failed.set()
        raise MemoryError("out of memory")

    def goes_on():
        assert failed.wait(HUNG)
        ended.append(True)
        return torch.zeros(1)

    with pytest.raises(MemoryError):
        workers.run([fails, goes_on])
    assert ended
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_few_windows_and_those_on_another_device_stay_together():
    workers = Workers()
    assert workers.parts(7, torch.device("cpu")) == [slice(0, 7)]
    assert workers.parts(9, torch.device("cpu")) == [slice(0, 5), slice(5, 9)]
    assert workers.parts(128, torch.device("cuda")) == [slice(0, 128)]


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("channels", "shared"), [(4, False), (128, True)])
def test_windows_of_a_network_with_little_to_compute_stay_together(
    channels: int, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python goes through a step for one worker at a time: two would wait for each other."""
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, channels, 3, padding=1),
        torch.nn.Conv3d(channels, channels, 3, padding=1),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(channels, 2),
    ).eval()
    inference = IncrementalInference(ScoreNetwork(network), torch.randn(1, 1, 20, 20, 20), (4,) * 3)
    parts = []
    run = Workers.run

    def counted(self, work):
        parts.append(len(work))
        return run(self, work)

    monkeypatch.setattr(Workers, "run", counted)
    corners = np.array([[place, 8, 8] for place in range(16)])
    inference.scores(corners, torch.zeros(16, 1, 4, 4, 4))
    assert parts == [2 if shared else 1]

"""Workers of a DataLoader record the models that they call in their own journals, under the loading task."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprov import records
from tests.support import lines, of_type, run, tasks
from tests.torch.support import children, forwards

_PROGRAM = """
import sys
import torch
import flowprov

@flowprov.torch_capture(what="parent_and_children")
class Embeds(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
    def forward(self, x):
        return self.linear(x)

class Rows(torch.utils.data.Dataset):
    def __init__(self, model):
        self.model = model
        self.own = None
    def __len__(self):
        return 6
    def __getitem__(self, index):
        x = torch.full((1, 3), float(index))
        if self.own is None:
            self.own = Embeds()  # a model of this worker's own
            self.own.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            inherited, own = self.model(x), self.own(x)
        assert torch.equal(inherited, own)
        return inherited

if __name__ == "__main__":
    torch.manual_seed(0)
    model = Embeds()
    with flowprov.workflow("W"), flowprov.task_scope("loading"):
        with torch.no_grad():
            expected = torch.stack([model(torch.full((1, 3), float(n))) for n in range(6)])
        rows = Rows(model)
        loader = torch.utils.data.DataLoader(
            rows, batch_size=1, num_workers=2, multiprocessing_context=sys.argv[1]
        )
        found = torch.cat([each for each in loader])
        assert torch.equal(found, expected), (found, expected)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.soak)])
def test_workers_record_what_they_compute_under_the_task_that_loads(tmp_path: Path, method: str) -> None:
    run(_PROGRAM, tmp_path, method, env={"OMP_NUM_THREADS": "1"})
    found = forwards(tmp_path)
    loading = next(task for task in tasks(tmp_path) if task.activity_id == "loading")
    by_workers = [task for task in found if task.pid != loading.pid]
    # What a forked worker inherits is captured; a model that was pickled on its way is a plain one.
    assert len(by_workers) == (12 if method == "fork" else 6)
    assert len({task.pid for task in by_workers}) == 2
    assert {task.parent_task_id for task in found} == {loading.task_id}
    assert len({task.campaign_id for task in found}) == 1
    ids = {task.task_id: task.pid for task in found}
    for child in children(tmp_path):
        assert ids[str(child.parent_task_id)] == child.pid
    assert len(children(tmp_path)) == len(found)
    footers = of_type(lines(tmp_path), records.Footer)
    assert len(footers) == 3
    assert all(footer.captured == footer.written for footer in footers)

"""What the tables on the terminal say of a map."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from SaliencyExplain.cli.terminal_tables import agreement_table
from SaliencyExplain.comparison.agreement import agreement
from SaliencyExplain.records.agreement_row import Row


@pytest.mark.parametrize(("inside", "said"), [(4, "yes"), (3, "75 %"), (0, "no")])
def test_of_a_plateau_the_share_inside_is_told(inside, said):
    values, mask = np.zeros((6, 6)), np.zeros((6, 6), dtype=bool)
    values[2, 1:5] = 1.0
    mask[2, 1 : 1 + inside] = True
    mask[5, 5] = True
    console = Console(width=120)
    with console.capture() as captured:
        row = Row("one", "xrai", "glioma", "tumour", agreement(values, mask, np.eye(4)))
        console.print(agreement_table([row]))
    # Behind method, segment, AUROC, and the two energies with their per cent signs.
    cells = captured.get().splitlines()[-1].split()[7:]
    assert " ".join(cells).startswith(f"{said} ")

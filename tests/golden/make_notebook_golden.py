"""Write notebook.txt: what PyTorch 2.13 prints for the notebook after `manual_seed(0)`.

Run with an interpreter that has torch installed; addresses are masked.
"""

import re
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

import notebook  # noqa: E402

torch.manual_seed(0)
cells = notebook.run(notebook.parse(notebook.TEXT.read_text()), imports="import torch")
text = re.sub(r"0x[0-9a-f]+", "0x", notebook.render(cells))
(HERE / "notebook.txt").write_text(text)

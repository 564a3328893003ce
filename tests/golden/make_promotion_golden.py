"""Writes promotion.json: element types PyTorch gives, over all pairs of types and kinds of operand.

    python tests/golden/make_promotion_golden.py        (with PyTorch installed)

A table is a list of rows, one row per first type, one name per second type, both in the order of
`dtypes`; "-" where PyTorch raises. The operands are in `promotion_cases.py`, which this script uses
so that both sides see the same.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.modules["wengert"] = torch

import promotion_cases as cases  # noqa: E402


def main():
    tables = {"torch": torch.__version__, "dtypes": list(cases.DTYPES)}
    for section, table in cases.tables().items():
        tables[section] = {name: [" ".join(row) for row in rows] for name, rows in table.items()}
    (HERE / "promotion.json").write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()

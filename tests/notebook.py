"""Runs a notebook's code cells in order, and keeps what they print and draw.

    python tests/notebook.py docs/notebook.ipynb

writes the outputs into the file. A cell's last line is not shown by itself: what is to be seen is printed or drawn.
"""

import base64
import contextlib
import io
import json
import sys
from pathlib import Path


def executed(path):
    """The notebook with the outputs of its code cells, run in one namespace."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    told = json.loads(Path(path).read_text(encoding="utf-8"))
    names = {"__name__": "__main__"}
    for number, cell in enumerate(c for c in told["cells"] if c["cell_type"] == "code"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("".join(cell["source"]), f"cell {number + 1}", "exec"), names)
        cell["execution_count"] = number + 1
        cell["outputs"] = []
        if said.getvalue():
            lines = said.getvalue().splitlines(keepends=True)
            cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": lines})
        for figure in map(pyplot.figure, pyplot.get_fignums()):
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=72, metadata={"Software": None})
            data = {"image/png": base64.b64encode(drawn.getvalue()).decode()}
            cell["outputs"].append({"output_type": "display_data", "data": data, "metadata": {}})
        pyplot.close("all")
    return told


def printed(told):
    """What each code cell printed."""
    return [
        "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")
        for cell in told["cells"]
        if cell["cell_type"] == "code"
    ]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(json.dumps(executed(name), indent=1, ensure_ascii=False) + "\n")

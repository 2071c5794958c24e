"""Bad inputs, hostile ones among them: refused in a sentence that names the file and what to do, before any
work, and nothing that lay there is touched. The inputs lie in `bad_inputs/`, see its `cases.yaml`."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import refusals

CASES = refusals.cases()
PER_KIND = {"config": 30, "prompts": 8, "corpus": 12, "model": 8, "dictionary": 8, "artefact": 20}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What was said of every case, by name."""
    found = {}
    for weight in ("light", "heavy"):
        folder = tmp_path_factory.mktemp(weight)
        command = [sys.executable, Path(refusals.__file__), weight, folder]
        ran = subprocess.run([str(w) for w in command], capture_output=True, text=True, timeout=900)
        assert ran.returncode == 0, ran.stderr[-3000:]
        for line in ran.stdout.splitlines():
            case = json.loads(line)
            found[case["name"]] = case
    return found


def test_there_are_enough_of_each_kind():
    assert len({case["name"] for case in CASES}) == len(CASES) > 140
    for kind, least in PER_KIND.items():
        assert sum(case["as"] == kind for case in CASES) >= least, kind


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bad_inputs_are_refused_in_a_sentence_and_change_nothing(told, case):
    found = told[case["name"]]
    assert found["changed"] == []
    # Nothing new either: no half-written output, and no code of the input was run.
    assert found["new"] == []
    said = found["said"]
    if case.get("accepted"):
        assert said is None
        return
    assert said is not None, "was taken"
    assert not said.startswith("not a sentence"), said
    assert "Traceback" not in said
    for words in case["says"]:
        assert words in said, said
    named = Path(case["file"]).name
    if case["as"] == "artefact":
        named = {"activations": "activations0.h5", "dictionary": "dictionary0"}.get(named, "table")
    assert named in said
    assert len(said) < 2000


# --- HTML --------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Elements(HTMLParser):
    """Elements of a page by name, with their attributes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_report_escapes_what_others_wrote(tmp_path):
    """Text of configurations, prompts and tables, as HTML would be run, is shown as it stands."""
    from crossseed import store
    from crossseed.cohorts.base import CURVE_COLUMNS, QUALITY_COLUMNS
    from crossseed.report import page

    folder = tmp_path / "results/reports/hostile"
    tables = folder / "tables"
    curve = {"cohort": "toy", "seed": 0, "learning_rate": 0.1, "gradient_norm": 1.0}
    rows = [{**curve, "step": step, "loss_nats": 1.0} for step in (50, 100, 150)]
    store.write_table(tables / "training.csv", CURVE_COLUMNS, rows)
    quality = {"cohort": "toy", "seed": 0, "step": 150, "distribution": HOSTILE}
    quality |= {"measure": "accuracy_tok", "value": 0.5, "n_tokens": 9}
    store.write_table(tables / "quality.csv", QUALITY_COLUMNS, [quality])
    (tables / f"{HOSTILE.replace('/', ' ')}.csv").write_text("a\n")
    benchmark = tmp_path / "results/toy/benchmarks/train/seed0.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\tmax_rss\n1.0\t5.0\n")
    log = tmp_path / "results/toy/logs/train/seed0.log"
    log.parent.mkdir(parents=True)
    used = {"device": HOSTILE, "devices": 1, "device_seconds": 2.0, "peak_gpu_bytes": 3}
    log.write_text(f"used {json.dumps(used)}\n")
    cohort = {"kind": "dyck", "anchor": 0, "seeds": [0], "sites": ["blocks.0.hook_resid_pre"]}
    cohort |= {"width": 64, "shared": [], "recipe": {"prompts": HOSTILE, HOSTILE: 1}}
    spec = {
        "run": "hostile",
        "cohorts": {"toy": cohort},
        "edited": [],
        "dictionaries": {},
        "drift": None,
        "tables": ["quality", "training"],
    }
    page.write(spec, tmp_path / "results", folder / "index.html")
    text = (folder / "index.html").read_text(encoding="utf-8")
    elements = Elements()
    elements.feed(text)
    # The page's own program, and rows of tables, packed: text that nothing runs.
    scripts = [attributes for tag, attributes in elements.found if tag == "script"]
    assert [found for found in scripts if found != {"type": "text/plain"}] == [{}]
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,")
    # In the recipe's key and value, the GPU, and the distribution's name as a column and in a row.
    assert len(re.findall(r"&lt;script&gt;", text)) >= 5

"""Bad inputs, hostile ones among them: refused in a sentence that names the file and what to do, before any
work, and nothing that lay there is touched. The inputs lie in `bad_inputs/`, see its `cases.yaml`."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
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

# Where text that others wrote can stand on the page of the planted run, and how often it is shown. A new
# place, of a configuration, a log, a prompt or a table, belongs here and into the run below.
SHOWN = Counter({
    "key of a recipe": 1, "value of a recipe": 1,
    "key of a setting": 1, "value of a setting": 1,
    "name of a model": 1, "commit of a model": 1,
    "name of a weight file": 1,
    "name of a GPU": 1,
    # As a column or line of the models' table, and in a row of the file's.
    "distribution": 2, "measure": 2,
    # No table of this run.
    "name of a stray file": 0,
})  # fmt: skip


def hostile(place):
    """Text that would run as HTML, and says where it stood."""
    assert place in SHOWN
    return f"<script>alert({place})</script><img src=x onerror=alert(2)>\"'&"


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
    quality = {"cohort": "toy", "seed": 0, "step": 150, "value": 0.5, "n_tokens": 9}
    measured = (("accuracy_tok", hostile("distribution")), (hostile("measure"), "long"))
    rows = [{**quality, "measure": measure, "distribution": of} for measure, of in measured]
    store.write_table(tables / "quality.csv", QUALITY_COLUMNS, rows)
    (tables / f"{hostile('name of a stray file').replace('/', ' ')}.csv").write_text("a\n")
    check = {"seed": 0, "checkpoint": "final", "model_id": hostile("name of a model")}
    store.write_table(
        tmp_path / "results/toy/checks/0.csv",
        (*check, "commit"),
        [{**check, "commit": hostile("commit of a model")}],
    )
    benchmark = tmp_path / "results/toy/benchmarks/train/seed0.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\tmax_rss\n1.0\t5.0\n")
    log = tmp_path / "results/toy/logs/train/seed0.log"
    log.parent.mkdir(parents=True)
    told = json.dumps({hostile("key of a setting"): hostile("value of a setting")})
    weights = f"results/toy/models/{hostile('name of a weight file')}.safetensors"
    used = {"device": hostile("name of a GPU"), "devices": 1, "device_seconds": 2.0}
    used["peak_gpu_bytes"] = 3
    log.write_text(
        f"$ crossseed {shlex.join(['train', '--spec', told])}\n"
        f"wrote {'0' * 32} {weights}\nused {json.dumps(used)}\n"
    )
    cohort = {"kind": "dyck", "anchor": 0, "seeds": [0], "sites": ["blocks.0.hook_resid_pre"]}
    recipe = {"prompts": hostile("value of a recipe"), hostile("key of a recipe"): 1}
    cohort |= {"width": 64, "shared": [], "recipe": recipe}
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
    found = re.findall(r"&lt;script&gt;alert\(([^)]*)\)", text)
    assert Counter(found) == SHOWN
    assert text.count("&lt;script") == len(found)

"""Plans of the shipped configs, without network, and what a grid of hub models makes anew."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from workflow_runs import Planner, planned

from crossseed import estimate, layout, passes, plan
from crossseed.config.load import load_files

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))
GRID = "pythia-70m"
PAGE = rf"results/reports/{GRID}/(?:index\.html|figures/.*)"
TABLES = rf"results/reports/{GRID}/tables/(?:{{}})\.csv"
# What is drawn under Haar measure depends on no cohort.
REPORT = [PAGE, TABLES.format("(?!power).*")]
OF_DICTIONARIES = [
    PAGE,
    TABLES.format(
        "dictionaries|transfer|evidence|splice|decoder_cosine|over_seeds|ports|features|claims"
    ),
]
# No hub, and no way to another place either.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory):
    """Runs of Snakemake without network, from one process; what each said."""
    folder = tmp_path_factory.mktemp("said")
    with Planner(**OFFLINE, HF_HOME=str(folder / "no-cache")) as planner:

        def run(directory, config, *args):
            said, text = planner(folder / "out.txt", directory, config, *args)
            assert said == "done", text[-5000:]
            return text

        yield run


@pytest.fixture(scope="module")
def summary(snakemake):
    """Output files of a plan: all of them, and those to be made."""
    return lambda folder, config: planned(snakemake(folder, config, "--detailed-summary"))


# --- every shipped config ---------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_are_planned_and_jobs_are_those_estimated(path, tmp_path, snakemake):
    said = snakemake(tmp_path, path, "--dry-run", "--quiet", "rules")
    # Once before and once after the jobs.
    stats = said.split("Job stats:")[-1]
    counts = {
        name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", stats, re.M) if name != "total"
    }
    found = Counter()
    for rule, n in counts.items():
        stage = re.match(r"(?:train|extract|sae)(?=_)|\w+", rule)[0]
        found[stage] += n
    expected = {stage.name: stage.jobs for stage in estimate.stages(load_files(path))}
    assert {name: found[name] for name in expected} == expected
    known = {"check", "tokenizer", "tokens", "drift_of_seed"}
    known |= {"collect", "part", "over_seeds", "joint_tables", "claims", "report", "all"}
    others = {re.sub(r"^tokenizer_\w+", "tokenizer", name) for name in set(found) - set(expected)}
    assert others <= known, others
    assert not (tmp_path / "results").exists()


# --- a grid of hub models ---------------------------------------------------------------


def grid(**keys):
    """The nine-seed grid of hub models, keys of its cohort replaced."""
    config = yaml.safe_load((ROOT / f"config/{GRID}.yaml").read_text())
    config["cohorts"][GRID] |= keys
    return config


def written(path, config):
    path.write_text(yaml.safe_dump(config))
    return path


ADDED = [
    ({"seeds": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}, r"/(?:seed\d+-)?seed10/"),
    ({"checkpoints": ["step1000", "step143000"]}, r"/step1000(?:/|-shared|-ks|-cells|\.csv)"),
]


def test_a_seed_or_checkpoint_more_adds_its_own_files_alone(tmp_path, summary):
    old, _ = summary(tmp_path, written(tmp_path / "old.yaml", grid()))
    assert len(old) > 1000
    for number, (keys, own) in enumerate(ADDED):
        new, pending = summary(tmp_path, written(tmp_path / f"{number}.yaml", grid(**keys)))
        assert old < new
        assert pending == new  # nothing is there yet
        # Parts of tables come and go with the number of cells.
        added = {path for path in new - old if "/parts/" not in path}
        assert all(re.search(own, path) for path in added)
        assert not any(re.search(own, path) for path in old)
        rooms = {path.split("/")[2] for path in added}
        paired = {"maps", "fits", "transfer", "splice", "decoder_cosine", "haar", "published"}
        paired |= {"ports", "steering", "features"}
        assert rooms == {"activations", "dictionaries", "attribution", *paired}


def small(**keys):
    """A corner of the grid: three seeds, two sites, and one size of each dictionary."""
    sites = ["blocks.0.hook_resid_pre", "blocks.3.hook_resid_post"]
    config = grid(**{"seeds": [1, 2, 3], "sites": sites, **keys})
    for variant in config["dictionaries"].values():
        variant["expansions"] = [8]
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, snakemake, summary):
    """A folder in which the corner of the grid counts as run, activations kept: its files are
    there, empty, and Snakemake has recorded every job."""
    folder = tmp_path_factory.mktemp("grid")
    config = written(folder / "old.yaml", small())
    everything, _ = summary(folder, config)
    for path in everything:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    snakemake(folder, config, "--touch", "--forceall", "--notemp", "--cores", "1", "--quiet")
    # What the jobs themselves would have noted.
    run = load_files(config)
    id_of = run.cohorts[GRID].id_of
    seen = [f"seed{m.seed}/{m.checkpoint}={id_of(*m[1:])}" for m in plan.loaded(run, GRID)]
    passes.record(folder / layout.PASSES.format(cohort=GRID), plan.sites(run, GRID))
    passes.record(folder / layout.CHECK_PASSES.format(cohort=GRID), seen)
    return folder


def changes():
    topk = json.loads(json.dumps(small()))
    topk["dictionaries"]["topk"]["k"] = 41
    check = rf"results/{GRID}/checks/1\.csv"
    # Tests over all pairs of a site, or all seeds.
    together = [rf"results/{GRID}/haar/(?:(?:across|cocycle)/.*|.*-ks\.csv)"]
    return {
        "nothing": (small(), []),
        "a seed": (
            small(seeds=[1, 2, 3, 4]),
            [rf"results/{GRID}/.*/(?:seed1-)?seed4/.*", *together, check, *REPORT],
        ),
        # Where it stands in the list means nothing.
        "a checkpoint": (
            small(checkpoints=["step1000", "step143000"]),
            [rf"results/{GRID}/.*/step1000(?:/.*|(?:-shared|-ks|-cells)?\.csv)", check, *REPORT],
        ),
        "a sparsity": (
            topk,
            [
                rf"results/{GRID}/dictionaries/.*/topk-x8.*",
                rf"results/{GRID}/(?:transfer|splice|decoder_cosine|ports|features)/.*",
                *OF_DICTIONARIES,
            ],
        ),
    }


CHANGES = changes()


def check_plan(found, expected):
    """A plan holds the files that match a pattern, and no others."""
    everything, pending = found
    wanted = {path for path in everything if any(re.fullmatch(p, path) for p in expected)}
    assert all(any(re.fullmatch(p, path) for path in everything) for p in expected)
    assert pending == wanted


@pytest.mark.parametrize("name", CHANGES)
def test_on_a_finished_grid_a_change_runs_its_own_jobs_alone(finished, tmp_path, summary, name):
    config, expected = CHANGES[name]
    check_plan(summary(finished, written(tmp_path / "new.yaml", config)), expected)


@pytest.mark.xfail(
    strict=True,
    reason="Snakemake reruns every reader of a temporary file that it makes again",
)
def test_the_same_holds_once_temporary_activations_are_deleted(finished, tmp_path, summary):
    """Beside the change's own jobs, the activations that they read are made again, no more."""
    config, expected = CHANGES["a seed"]
    folder = tmp_path / "grid"
    shutil.copytree(finished, folder)
    for path in (folder / f"results/{GRID}/activations").glob("seed*"):
        shutil.rmtree(path)
    # The new seed is compared with the anchor.
    again = rf"results/{GRID}/activations/seed1/.*"
    check_plan(summary(folder, written(tmp_path / "new.yaml", config)), [*expected, again])


def test_no_rule_asks_more_time_than_a_common_partition_gives():
    """A job that asks more than its partition allows waits for ever."""
    rules = sorted((ROOT / "workflow/rules").glob("*.smk"))
    asked = {
        (path.name, int(minutes))
        for path in rules
        for minutes in re.findall(r"\bruntime=(\d+)", path.read_text())
    }
    assert len(asked) > 10
    assert max(minutes for _, minutes in asked) <= 240, asked


# --- more cells than a command can name --------------------------------------------------

# Linux's limit of one argument, as which a shell takes a job's command.
LONGEST_COMMAND = 1 << 17


def test_a_table_of_many_cells_is_joined_in_parts(snakemake, tmp_path):
    config = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    name = next(iter(config["cohorts"]))
    kept = {"run", "device", "attribution", "slots_per_gpu", "keep_activations"}
    off = dict.fromkeys(set(config) - kept)
    cohort = {**config["cohorts"][name], "seeds": list(range(1100)), "anchor": 0}
    large = {**config, **off, "cohorts": {name: cohort}, "dictionaries": {}}
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump(large))
    text = snakemake(tmp_path, path, "--dry-run", "--printshellcmds")
    commands = [line for line in text.splitlines() if "python -m crossseed collect" in line]
    # Two tables of 1,100 cells, of three parts that are joined, and two of the anchor's attribution.
    assert len(commands) == 2 * (3 + 1) + 2
    assert max(map(len, commands)) < LONGEST_COMMAND
    cells = re.findall(r"models/seed(\d+)/training\.csv", " ".join(commands))
    assert sorted(map(int, cells)) == list(range(1100))

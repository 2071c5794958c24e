"""Bad configurations get one clear sentence each, naming file, key, value and remedy."""

import json
from pathlib import Path

import changes
import pytest
import yaml

from crossseed import specs
from crossseed.config import reference
from crossseed.config.load import load_files, load_run
from crossseed.errors import UserError
from crossseed.store import canonical_json

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))
SMOKE = changes.read(ROOT / "config/smoke.yaml")


def changed(path, value):
    """The smoke config with one value replaced; a new key is added."""
    return changes.replaced(SMOKE, path, value)


COHORT = ("cohorts", "smoke-shared")
CASES = [
    (("port", "dictionaries"), ["gated"], "top level", "port.dictionaries names 'gated'"),
    (("weights",), None, "top level", "bars match heads by the alignment of weights"),
    (("weights", "untrained"), "step7", "top level", "weights.untrained names 'step7'"),
    (("weights", "starts"), 1, "weights.starts = 1", "greater than"),
    (("bars", "rows"), 900, "top level", "bars asks for 3600 sequences (batches × rows)"),
    (("stability", "dictionaries"), ["gated"], "top level", "stability.dictionaries names 'gated'"),
    (("stability", "sites"), ["blocks.9"], "top level", "stability.sites names 'blocks.9'"),
    (("stability", "sites"), [], "top level", "stability.sites is empty"),
    (("stability", "seeds"), 1, "stability.seeds = 1", "greater than or equal to 2"),
    (("stability", "threshold"), 1.5, "stability.threshold = 1.5", "less than or equal to 1"),
    (
        ("stability", "interpret", "dictionaries"),
        ["gated"],
        "top level",
        "stability.interpret.dictionaries names 'gated', which stability.dictionaries does not",
    ),
    (
        ("stability", "interpret", "model"),
        "tiny",
        "stability.interpret",
        "scorer ngram asks no language model, but model is 'tiny'; set it to null",
    ),
    (
        ("stability", "interpret", "scorer"),
        "openai",
        "stability.interpret",
        "scorer openai needs a model; give its name at the endpoint",
    ),
    (
        ("stability", "interpret", "scorer"),
        "gpt",
        "stability.interpret.scorer = 'gpt'",
        "'ngram', 'openai' or 'local'",
    ),
    (
        ("stability", "interpret", "order"),
        7,
        "stability.interpret",
        "order = 7 is longer than a window of context = 6 tokens",
    ),
    (
        ("stability", "matched", "dictionaries"),
        ["topk"],
        "top level",
        "topk has no penalty: its k is its L0",
    ),
    (
        ("stability", "dictionaries"),
        ["topk"],
        "top level",
        "stability.matched.dictionaries names 'relu-l1', which stability.dictionaries does not",
    ),
    (
        ("stability", "absorption"),
        {
            "letters_min_tokens": 5,
            "rows": 100,
            "permutations": 1,
            "k": 5,
            "jump": 0.03,
            "probe_f1": 0.6,
            "cosine": 0.025,
            "share": 0.4,
        },
        "top level",
        "stability.absorption is about first letters of tokens, but no cohort reads text",
    ),
    (
        ("dictionaries", "relu-l1", "inits"),
        [],
        "top level",
        "claims.dictionary 'relu-l1-x2' is not made by this run",
    ),
    (("port", "map"), "raw", "port.map = 'raw'", "'procrustes'"),
    (("splice",), {"sequences": 0}, "splice.sequences = 0", "greater than"),
    (("steering",), None, "top level", "features takes concepts from steering"),
    (
        ("steering", "concepts"),
        [],
        "top level",
        "steering.concepts is empty, but cohorts.smoke-",
    ),
    (("steering", "concepts"), ["rudeness"], "steering.concepts[0] = 'rudeness'", "'depth_shift'"),
    (("steering", "directions"), 99, "steering.directions = 99", "greater than or equal to 100"),
    (("features", "dictionary"), "topk-x9", "top level", "choose from relu-l1-x2, topk-x2"),
    (("attribution", "sequences"), 99, "top level", "attribution asks for 198 sequences"),
    (("attribution", "right"), [2, 2], "attribution.right = [2, 2]", "2 listed twice"),
    (("cohort",), {}, "cohort", "did you mean 'cohorts'"),
    ((*COHORT, "sede"), [1], "cohorts.smoke-shared.sede", "did you mean 'seeds'"),
    (
        (*COHORT, "training", "setps"),
        3,
        "cohorts.smoke-shared.training.setps",
        "did you mean 'steps'",
    ),
    (("dictionaries", "relu-l1", "k"), 3, "dictionaries.relu-l1.k", "unknown key"),
    ((*COHORT, "seeds"), [0, 1, 0], "cohorts.smoke-shared.seeds = [0, 1, 0]", "0 listed twice"),
    ((*COHORT, "seeds"), [], "cohorts.smoke-shared.seeds", "at least 1 item"),
    ((*COHORT, "seeds"), [0, -1], "cohorts.smoke-shared.seeds[1] = -1", "greater than or equal"),
    ((*COHORT, "seeds"), ["0"], "cohorts.smoke-shared.seeds[0] = '0'", "valid integer"),
    ((*COHORT, "anchor"), 7, "cohorts.smoke-shared", "anchor 7 is not a member"),
    (
        (*COHORT, "sites"),
        ["blocks.7.hook_resid_mid"],
        "cohorts.smoke-shared.sites",
        "'blocks.7.hook_resid_mid' does not exist",
    ),
    (
        (*COHORT, "sites"),
        ["blocks.1.hook_resid_pre"],
        "cohorts.smoke-shared.sites",
        "same tensor as 'blocks.0.hook_resid_post'",
    ),
    ((*COHORT, "checkpoints"), ["step9"], "cohorts.smoke-shared", "add 9 to training.keep_steps"),
    ((*COHORT, "checkpoints"), ["last"], "cohorts.smoke-shared.checkpoints", "no checkpoint"),
    ((*COHORT, "share"), ["W_Q"], "cohorts.smoke-shared.share[0] = 'W_Q'", "W_U_tok"),
    ((*COHORT, "kind"), "toy", "cohorts.smoke-shared.kind = 'toy'", "'dyck'"),
    ((*COHORT, "training", "peak_lr"), 0, "training.peak_lr = 0", "greater than 0"),
    ((*COHORT, "training", "peak_lr"), "fast", "training.peak_lr = 'fast'", "number"),
    ((*COHORT, "training", "peak_lr"), float("nan"), "training.peak_lr = nan", "finite"),
    ((*COHORT, "training", "steps"), 2.5, "training.steps = 2.5", "integer"),
    ((*COHORT, "training", "pool_rows"), 3, "training", "pool_rows 3 is smaller"),
    ((*COHORT, "training", "lengths"), [9, 63], "training.lengths = [9, 63]", "<= 62"),
    ((*COHORT, "training", "keep_steps"), [20, 99], "training", "[99] lie beyond"),
    ((*COHORT, "tokens", "fit"), [0, 100], "tokens", "splits fit = [0, 100] and train = [96, 224]"),
    ((*COHORT, "tokens", "eval"), [300, 300], "tokens", "split eval = [300, 300] is empty"),
    ((*COHORT, "tokens", "eval"), [224, 900], "tokens", "more than the 320 sequences there are"),
    ((*COHORT, "tokens", "lengths"), [1, 2], "tokens", "only 42 distinct"),
    (
        ("dictionaries", "topk", "expansions"),
        [0],
        "dictionaries.topk.expansions[0] = 0",
        "equal to 1",
    ),
    (("dictionaries", "topk", "k"), 0, "dictionaries.topk.k = 0", "equal to 1"),
    (("dictionaries", "topk", "k"), 10**6, "dictionaries.topk", "k 1000000"),
    (("dictionaries", "topk", "architecture"), "tpok", "dictionaries.topk", "'relu_l1', 'topk'"),
    (("dictionaries", "relu-l1", "l1"), -1.0, "dictionaries.relu-l1.l1 = -1.0", "equal to 0"),
    (("dictionaries", "relu-l1", "warmup_steps"), 50, "dictionaries.relu-l1", "exceed steps 40"),
    ((*COHORT, "seeds"), [0], "top level", "cohorts.smoke-shared.seeds has one"),
    ((*COHORT, "checkpoints"), ["step020"], "cohorts.smoke-shared.checkpoints", "no checkpoint"),
    ((*COHORT, "tokens", "fit"), [0, 1], "cohorts.smoke-shared.tokens.fit", "needs 128"),
    ((*COHORT, "training", "warmup_steps"), 99, "training", "warmup_steps 99 exceeds steps 60"),
    (("dictionaries", "topk", "batch_tokens"), 10**7, "dictionaries.topk.batch_tokens", "lower it"),
    (("dictionaries", "topk", "members"), "some", "dictionaries.topk.members = 'some'", "'anchor'"),
    (("transfer", "pairs"), "some", "transfer.pairs = 'some'", "'anchor' or 'all'"),
    (("transfer", "resamples"), 10, "transfer.resamples = 10", "100"),
    (("run",), "../x", "run = '../x'", "lower-case letters"),
    (("device",), "tpu", "device = 'tpu'", "'auto', 'cpu' or 'cuda'"),
]


@pytest.mark.parametrize(("path", "value", "key", "said"), CASES)
def test_bad_value_is_named_with_its_remedy(tmp_path, path, value, key, said):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(UserError) as caught:
        load_files(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: "), text
    assert key in text, text
    assert said in text, text
    assert len(text.splitlines()) == 1, text


def test_missing_key_is_named(tmp_path):
    config = changes.own(SMOKE)
    del config["cohorts"]["smoke-shared"]["training"]["steps"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(
        UserError, match=r"mine\.yaml: cohorts\.smoke-shared\.training\.steps: is missing"
    ):
        load_files(file)


def test_all_problems_are_told_at_once():
    config = changed((*COHORT, "anchor"), 7)
    config["transfer"]["resamples"] = 1
    config["nonsense"] = 1
    with pytest.raises(UserError) as caught:
        load_run(config)
    assert len(str(caught.value).splitlines()) == 3


def test_the_file_with_the_bad_value_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(SMOKE))
    (tmp_path / "b.yaml").write_text("transfer: {pairs: anchor, resamples: 3}\n")
    with pytest.raises(UserError, match=r"b\.yaml: transfer\.resamples = 3"):
        load_files(tmp_path / "a.yaml", tmp_path / "b.yaml")


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"a\.yaml: not a readable YAML"):
        load_files(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match=r"a\.yaml: not a readable YAML"):
        load_files(tmp_path / "a.yaml")
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_files(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_configs_are_valid(path):
    assert load_files(path).run


def test_shipped_configs_share_no_cohort_name():
    """Cohorts of one name share their folder, and would make each other's results stale."""
    names = [name for path in SHIPPED for name in load_files(path).cohorts]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_claims_name_a_dictionary_where_they_are_about_one():
    joint = yaml.safe_load((ROOT / "config/joint-bert.yaml").read_text())
    joint["claims"]["dictionary"] = "topk-x8"
    with pytest.raises(UserError, match=r"claims\.dictionary .* set it to null"):
        load_run(joint)
    with pytest.raises(UserError, match=r"claims\.dictionary .* choose from relu-l1-x2"):
        load_run(changed(("claims", "dictionary"), None))


def test_numbers_without_a_dot_are_read_as_meant():
    config = changed(("dictionaries", "relu-l1", "lr"), "5e-4")
    assert load_run(config).dictionaries["relu-l1"].lr == 5e-4


def test_every_leaf_is_described():
    for path, field, _ in reference.leaves():
        assert field.description, path
        assert field.description.endswith("."), path


def test_sites_of_a_shared_rotation_keep_the_order_of_their_files():
    """Canonical JSON sorts mappings; the default config's sites are not in that order."""
    run = load_files(ROOT / "config/config.yaml")
    (cohort, config), *_ = run.cohorts.items()
    source, target, *_ = config.seeds
    told = json.loads(canonical_json(specs.shared(run, cohort, source, target, "final")))
    assert [site for site, _ in told["sites"]] == config.sites != sorted(config.sites)


@pytest.mark.parametrize("path", ["tests/faults/tiny.yaml", "docs/hypothetical/pair-10b.yaml"])
def test_runs_that_only_harnesses_and_pages_read_are_valid(path):
    assert load_files(ROOT / path).cohorts

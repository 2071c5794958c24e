"""Where artefacts lie below the working directory: one template a noun, one folder a level."""

# What stands for a wildcard of the templates, as a regular expression.
WILDCARDS = {
    "run": r"[a-z0-9_-]+",
    "cohort": r"[a-z0-9_-]+",
    "seed": r"\d+",
    "source": r"\d+",
    "target": r"\d+",
    "checkpoint": r"final|step\d+",
    "site": r"[a-z0-9_.]+",
    "table": r"(?!claims|over_seeds|joint_pooled|joint_regression)[a-z_]+",
    "number": r"\d+",
    "part": r"\d+",
    "width": r"\d+",
    "draws": r"\d+",
    "power_draws": r"\d+",
    "dictionary": r"[a-z0-9-]+-x\d+",
    "first": r"(?:seed|shuffled|random)\d+",
    "second": r"(?:seed|shuffled|random)\d+",
    "init": r"shared|independent|(?:seed|shuffled)\d+",
    "condition": r"[a-z0-9]+(?:-(?:shared|distinct|lambda[0-9.e+-]+))?",
    "training": r"[a-z0-9]+(?:-(?:shared|distinct|lambda[0-9.e+-]+))?(?:-[ab])?",
    "null": r"[a-z]+\d*",
}

MODEL = "results/{cohort}/models/seed{seed}"
MODEL_TABLE = f"{MODEL}/{{table}}.csv"
MODEL_FOLDER = f"{MODEL}/{{checkpoint}}"
TOKENIZER = "results/{cohort}/tokenizer"
CHECK = "results/{cohort}/checks/{number}.csv"
CHECK_PASSES = "results/{cohort}/checks/passes.json"
TOKENS = "results/{cohort}/tokens/tokens.h5"
ACTIVATIONS = "results/{cohort}/activations/seed{seed}/{checkpoint}/{site}.h5"
PASSES = "results/{cohort}/activations/passes.json"
DICTIONARY_SITE = "results/{cohort}/dictionaries/seed{seed}/{checkpoint}/{site}"
DICTIONARY_METRICS = f"{DICTIONARY_SITE}/{{dictionary}}.csv"
DICTIONARY_CFG = f"{DICTIONARY_SITE}/{{dictionary}}-{{init}}/cfg.json"
DICTIONARY_WEIGHTS = f"{DICTIONARY_SITE}/{{dictionary}}-{{init}}/sae_weights.safetensors"
PAIR = "seed{source}-seed{target}/{checkpoint}/{site}"
MAPS = f"results/{{cohort}}/maps/{PAIR}.h5"
FITS = f"results/{{cohort}}/fits/{PAIR}.csv"
SHARED = "results/{cohort}/fits/seed{source}-seed{target}/{checkpoint}-shared.csv"
SHARED_TRANSFER = "results/{cohort}/transfer/seed{source}-seed{target}/{checkpoint}-shared.csv"
DIRECTIONS = f"results/{{cohort}}/fits/{PAIR}-directions.csv"
TRANSFER = f"results/{{cohort}}/transfer/{PAIR}.csv"
EVIDENCE = f"results/{{cohort}}/transfer/{PAIR}-evidence.csv"
SPLICE = f"results/{{cohort}}/splice/{PAIR}.csv"
SPLICE_EVIDENCE = f"results/{{cohort}}/splice/{PAIR}-evidence.csv"
PUBLISHED = f"results/{{cohort}}/published/{PAIR}.csv"
DICTIONARY_OF_SOURCE = DICTIONARY_WEIGHTS.replace("{seed}", "{source}")
PORT = f"results/{{cohort}}/ports/{PAIR}/{{dictionary}}-{{init}}"
PORT_FILES = ("cfg.json", "sae_weights.safetensors", "card.csv", "card-evidence.csv")
STEERING = f"results/{{cohort}}/steering/{PAIR}.csv"
FEATURES = f"results/{{cohort}}/features/{PAIR}.csv"
ATTRIBUTION = "results/{cohort}/attribution/seed{seed}/{checkpoint}.csv"
ATTRIBUTION_CELLS = "results/{cohort}/attribution/seed{seed}/{checkpoint}-cells.csv"
SEED_METRICS = f"{DICTIONARY_SITE}/{{dictionary}}-{{init}}.csv"
STABILITY_CELL = "seed{seed}/{checkpoint}/{site}/{dictionary}"
STABILITY = f"results/{{cohort}}/stability/{STABILITY_CELL}.csv"
STABILITY_LATENTS = f"results/{{cohort}}/stability/{STABILITY_CELL}-latents.csv"
MATCHED = f"results/{{cohort}}/stability/{STABILITY_CELL}-matched/{{first}}-{{second}}.safetensors"
BRIDGE = f"results/{{cohort}}/stability/{PAIR}/{{dictionary}}.csv"
ABSORPTION = f"results/{{cohort}}/stability/{STABILITY_CELL}-absorption.csv"
CALIBRATION = f"results/{{cohort}}/stability/{STABILITY_CELL}-calibration.csv"
INTERPRET = f"results/{{cohort}}/stability/{STABILITY_CELL}-interpret.csv"
INTERPRET_STEPS = f"results/{{cohort}}/stability/{STABILITY_CELL}-interpret-steps.csv"
EXPLANATIONS = f"results/{{cohort}}/stability/{STABILITY_CELL}-interpret-explanations.jsonl"
DELPHI = f"results/{{cohort}}/stability/{STABILITY_CELL}-interpret-delphi"
JOURNEY = "seed{source}-seed{target}/{checkpoint}"
WEIGHTS = f"results/{{cohort}}/weights/{JOURNEY}.csv"
JOINT = f"results/{{cohort}}/weights/{JOURNEY}-joint.csv"
ELEMENTS = f"results/{{cohort}}/weights/{JOURNEY}.safetensors"
CAUSES = "results/{cohort}/causes/seed{seed}/{checkpoint}.csv"
LENSES = "results/{cohort}/lenses/seed{seed}/{checkpoint}.csv"
BARS = f"results/{{cohort}}/bars/{JOURNEY}.csv"
COSINE = f"results/{{cohort}}/decoder_cosine/{PAIR}.csv"
# Draws under Haar measure belong to no cohort.
NULL = "results/nulls/d{width}-draws{draws}.h5"
POWER = "results/nulls/power-d{width}-draws{draws}-{power_draws}.csv"
HAAR = f"results/{{cohort}}/haar/{PAIR}.csv"
ACROSS = "results/{cohort}/haar/across/{checkpoint}/{site}.csv"
KS = "results/{cohort}/haar/{checkpoint}-ks.csv"
PHASES = "results/{cohort}/haar/across/{checkpoint}/{site}-phases.csv"
COCYCLE = "results/{cohort}/haar/cocycle/{checkpoint}/{site}.csv"
DRIFT = "results/{cohort}/drift/seed{seed}/{checkpoint}.csv"
DRIFT_SEED = "results/{cohort}/drift/seed{seed}.csv"
REPORT = "results/reports/{run}"
OVER_SEEDS = f"{REPORT}/tables/over_seeds.csv"
CLAIMS = f"{REPORT}/tables/claims.csv"
REPORT_FEATURES = f"{REPORT}/features"
# One SAE for two models; `JOINT` above is of weights.
JOINT_CACHE = "results/{cohort}/joint/cache/seed{seed}/{checkpoint}/{site}.h5"
JOINT_PAIR = f"results/{{cohort}}/joint/{PAIR}"
JOINT_MAPS = f"{JOINT_PAIR}/maps.h5"
JOINT_FITS = f"{JOINT_PAIR}/maps.csv"
JOINT_SAE = f"{JOINT_PAIR}/saes/{{training}}.safetensors"
JOINT_HISTORY = f"{JOINT_PAIR}/saes/{{training}}.csv"
JOINT_CONDITION = f"{JOINT_PAIR}/conditions/{{condition}}.csv"
JOINT_LATENTS = f"{JOINT_PAIR}/conditions/{{condition}}-latents.csv"
JOINT_NULL = f"{JOINT_PAIR}/nulls/{{null}}.csv"
JOINT_TESTS = f"{JOINT_PAIR}/null_tests.csv"
JOINT_SIZES = f"{JOINT_PAIR}/sizes.csv"
JOINT_HALVES = f"{JOINT_PAIR}/halves.csv"
JOINT_COUNTERFACTUALS = f"{JOINT_PAIR}/counterfactuals.csv"
JOINT_ITEMS = f"{JOINT_PAIR}/counterfactual_items.csv"
JOINT_CONTEXTS = f"{JOINT_PAIR}/contexts.csv"
JOINT_POOLED = f"{REPORT}/tables/joint_pooled.csv"
JOINT_REGRESSION = f"{REPORT}/tables/joint_regression.csv"
TABLE = f"{REPORT}/tables/{{table}}.csv"
PART = f"{REPORT}/parts/{{table}}-{{part}}.csv"
PAGE = f"{REPORT}/index.html"

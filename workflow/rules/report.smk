# Report: the run's tables, its figures, and the page that reads them out.
#
# Needs: the tables of all cells.
# Makes: results/reports/{run}/ with tables/*.csv, figures/*.svg and .png, index.html, and a page for each latent
#        that was tried on edited sentences.


rule collect:
    """One table of the run from the tables of its cells."""
    input:
        cells=cells_of_table,
        whole=whole_of_table,
    output:
        report(
            f"{layout.REPORT}/tables/{{table}}.csv",
            category="Tables",
            caption="../report/table.rst",
        ),
    log:
        f"{layout.REPORT}/logs/collect_{{table}}.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/collect_{{table}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=spec("collect"),
        code=code("collect"),
    shell:
        "python -m crossseed collect"
        " --spec {params.spec:q}"
        " --cells {input.cells:q}"
        " --out {output:q}"
        " &> {log:q}"


rule part:
    """Some of the cells of a table that joins more of them than one command can name."""
    input:
        cells_of_part,
    output:
        temp(layout.PART),
    log:
        f"{layout.REPORT}/logs/part_{{table}}-{{part}}.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/part_{{table}}-{{part}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=lambda wildcards: spec("collect", table=wildcards.table)(wildcards),
        code=code("collect"),
    shell:
        "python -m crossseed collect"
        " --spec {params.spec:q}"
        " --cells {input:q}"
        " --out {output:q}"
        " &> {log:q}"


rule over_seeds:
    """Medians over pairs, with intervals over seeds."""
    input:
        tables_among(plan.TABLES_OF_PAIRS),
    output:
        report(
            layout.OVER_SEEDS,
            category="Tables",
            caption="../report/table.rst",
        ),
    log:
        f"{layout.REPORT}/logs/over_seeds.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/over_seeds.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=estimate.report_mb(RUN),
        runtime=30,
    params:
        spec=spec("over_seeds"),
        code=code("over_seeds"),
    shell:
        "python -m crossseed over_seeds"
        " --spec {params.spec:q}"
        " --tables {input:q}"
        " --out {output:q}"
        " &> {log:q}"


rule report:
    """The figures, and the page with the answer in sentences made from the numbers."""
    input:
        expand(
            f"{layout.REPORT}/tables/{{table}}.csv",
            table=plan.tables(RUN),
            allow_missing=True,
        ),
    output:
        page=report(
            f"{layout.REPORT}/index.html",
            category="Report",
            caption="../report/page.rst",
        ),
        figures=report(
            expand(
                f"{layout.REPORT}/figures/{{figure}}.{{format}}",
                figure=plan.figures(RUN),
                format=("svg", "png"),
                allow_missing=True,
            ),
            category="Figures",
            caption="../report/figure.rst",
        ),
        features=directory(
            [layout.REPORT_FEATURES] if RUN.joint and RUN.joint.counterfactuals else []
        ),
    log:
        f"{layout.REPORT}/logs/report.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/report.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=estimate.report_mb(RUN),
        runtime=60,
    params:
        spec=spec("report"),
        code=code("report"),
    shell:
        "python -m crossseed report"
        " --spec {params.spec:q}"
        " --results results"
        " --page {output.page:q}"
        " &> {log:q}"

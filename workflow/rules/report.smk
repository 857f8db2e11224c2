# rliable aggregates of a study, and the report on them.


rule aggregate:
    input:
        PLAN.records,
    output:
        multiext(str(paths.study("{scale}", "{study}")) + "/", *paths.STUDY_FILES),
    params:
        digest=lambda wildcards: PLAN.study_digest("aggregate"),
    log:
        "logs/{scale}/aggregate/{study}.log",
    benchmark:
        "logs/{scale}/aggregate/{study}.benchmark.tsv"
    shell:
        "{IRISFLOW} aggregate --study {wildcards.study} --scale {wildcards.scale}"
        " --digest {params.digest} {OVERRIDES} 2>&1 | tee {log}"


rule report:
    input:
        multiext(str(paths.study(STUDY.scale, STUDY.name)) + "/", *paths.STUDY_FILES),
        PLAN.reconstructions,
    output:
        pdf="reports/summary.pdf",
        json="reports/summary.json",
        figures=directory("reports/figures"),
    params:
        digest=lambda wildcards: PLAN.study_digest("report"),
        study=STUDY.name,
        scale=STUDY.scale,
    log:
        "logs/report.log",
    benchmark:
        "logs/report.benchmark.tsv"
    shell:
        "{IRISFLOW} report --study {params.study} --scale {params.scale}"
        " --digest {params.digest} {OVERRIDES} 2>&1 | tee {log}"

# rliable aggregates of a study, and the report on them.


rule aggregate:
    input:
        records,
    output:
        multiext(str(paths.study("{scale}", "{study}")) + "/", *paths.STUDY_FILES),
    log:
        "logs/{scale}/aggregate/{study}.log",
    benchmark:
        "logs/{scale}/aggregate/{study}.benchmark.tsv"
    params:
        digest=lambda wildcards: PLAN.study_digest("aggregate"),
        games=STUDY.games,
        seeds=STUDY.seeds,
    shell:
        "python -m irisflow aggregate --study {wildcards.study} --scale {wildcards.scale}"
        " --games {params.games:q} --seeds {params.seeds:q}"
        " --digest {params.digest} 2>&1 | tee {log}"


rule report:
    input:
        multiext(str(paths.study(STUDY.scale, STUDY.name)) + "/", *paths.STUDY_FILES),
        lambda wildcards: PLAN.reconstructions + PLAN.films,
    output:
        pdf=report(
            "reports/summary.pdf",
            caption="../report/summary.rst",
            category="The report",
            labels={"what": "to print", "format": "PDF"},
        ),
        html=report(
            "reports/summary.html",
            caption="../report/page.rst",
            category="The report",
            labels={"what": "to explore", "format": "HTML"},
        ),
        json=report(
            "reports/summary.json",
            caption="../report/numbers.rst",
            category="The report",
            labels={"what": "all numbers", "format": "JSON"},
        ),
        metrics="reports/metrics.json",
        provenance="reports/provenance.json",
        manifest="reports/manifest.json",
        figures=report(
            directory("reports/figures"),
            patterns=["F{number}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "F{number}"},
        ),
        tables=directory("reports/tables"),
    log:
        "logs/report.log",
    benchmark:
        "logs/report.benchmark.tsv"
    params:
        digest=lambda wildcards: PLAN.study_digest("report"),
        study=STUDY.name,
        scale=STUDY.scale,
        games=STUDY.games,
        seeds=STUDY.seeds,
    shell:
        "python -m irisflow report --study {params.study} --scale {params.scale}"
        " --games {params.games:q} --seeds {params.seeds:q}"
        " --digest {params.digest} 2>&1 | tee {log}"

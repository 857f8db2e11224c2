# Recorded episodes for pretraining.


rule collect:
    input:
        named(PLAN.imported),
    output:
        multiext(
            str(paths.recording("{scale}", "{game}", "{seed}")) + "/",
            *paths.RECORDING_FILES,
        ),
    log:
        "logs/{scale}/collect/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/collect/{game}/seed-{seed}.benchmark.tsv"
    threads: JOB_CORES
    params:
        digest=digest("collect"),
    shell:
        "python -m irisflow collect --scale {wildcards.scale} --game {wildcards.game} --seed {wildcards.seed}"
        " --digest {params.digest} 2>&1 | tee {log}"

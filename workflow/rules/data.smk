# Recorded episodes for pretraining.


rule collect:
    output:
        [paths.recording("{scale}", "{game}", "{seed}", kind) for kind in paths.RECORDING_KINDS],
    params:
        digest=digest("collect"),
    threads: JOB_CORES
    log:
        "logs/{scale}/collect/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/collect/{game}/seed-{seed}.benchmark.tsv"
    shell:
        "{IRISFLOW} collect --scale {wildcards.scale} --game {wildcards.game} --seed {wildcards.seed}"
        " --digest {params.digest} {OVERRIDES} 2>&1 | tee {log}"

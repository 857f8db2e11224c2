# Scores of a finished agent over fresh episodes.


rule evaluate:
    input:
        paths.weights(paths.agent("{scale}", "{variant}", "{game}", "{seed}"), "agent"),
    output:
        multiext(
            str(paths.scores("{scale}", "{variant}", "{game}", "{seed}")) + "/",
            *paths.SCORES_FILES,
        ),
    log:
        "logs/{scale}/evaluate/{variant}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/evaluate/{variant}/{game}/seed-{seed}.benchmark.tsv"
    threads: JOB_CORES
    resources:
        gpu=0,
    params:
        digest=digest("evaluate"),
    shell:
        "python -m irisflow evaluate --scale {wildcards.scale} --variant {wildcards.variant} --game {wildcards.game}"
        " --seed {wildcards.seed} --digest {params.digest} 2>&1 | tee {log}"


# Scores of random play over the same test games, for "does the agent beat it".


rule play_random:
    output:
        multiext(
            str(paths.random_play("{scale}", "{game}", "{seed}")) + "/",
            *paths.SCORES_FILES,
        ),
    log:
        "logs/{scale}/play_random/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/play_random/{game}/seed-{seed}.benchmark.tsv"
    threads: JOB_CORES
    params:
        digest=digest("play_random"),
    shell:
        "python -m irisflow play-random --scale {wildcards.scale} --game {wildcards.game}"
        " --seed {wildcards.seed} --digest {params.digest} 2>&1 | tee {log}"

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
    threads: cores
    resources:
        gpu=gpu_slots,
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


# Episodes that no training sees, by the study's baseline: all world models of a game are measured on them.


rule hold_out:
    input:
        paths.weights(paths.agent("{scale}", "{variant}", "{game}", "{seed}"), "agent"),
    output:
        multiext(
            str(paths.held_out("{scale}", "{variant}", "{game}", "{seed}")) + "/",
            *paths.HELD_OUT_FILES,
        ),
    log:
        "logs/{scale}/hold_out/{variant}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/hold_out/{variant}/{game}/seed-{seed}.benchmark.tsv"
    threads: cores
    resources:
        gpu=gpu_slots,
    params:
        digest=digest("hold_out"),
    shell:
        "python -m irisflow hold-out --scale {wildcards.scale} --variant {wildcards.variant} --game {wildcards.game}"
        " --seed {wildcards.seed} --digest {params.digest} 2>&1 | tee {log}"


# Tokenizer and world model of an agent, from fresh to finished, on the held-out episodes.


rule measure_world_model:
    input:
        agent=multiext(
            str(paths.agent("{scale}", "{variant}", "{game}", "{seed}")) + "/",
            "agent.safetensors",
            "snapshots.safetensors",
            "manifest.json",
        ),
        held_out=held_out,
    output:
        multiext(
            str(paths.world_model_quality("{scale}", "{variant}", "{game}", "{seed}"))
            + "/",
            *paths.WORLD_MODEL_QUALITY_FILES,
        ),
    log:
        "logs/{scale}/measure_world_model/{variant}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/measure_world_model/{variant}/{game}/seed-{seed}.benchmark.tsv"
    threads: cores
    resources:
        gpu=gpu_slots,
    params:
        digest=digest("measure_world_model"),
        held_out=lambda wildcards: PLAN.held_out(
            scale=wildcards.scale, game=wildcards.game
        ),
    shell:
        "python -m irisflow measure-world-model --scale {wildcards.scale} --variant {wildcards.variant}"
        " --game {wildcards.game} --seed {wildcards.seed} --held-out {params.held_out}"
        " --digest {params.digest} 2>&1 | tee {log}"

# Full IRIS training of one variant on one game with one seed. A stopped job goes on from resume/.


rule train_agent:
    input:
        named(PLAN.initial_weights),
    output:
        multiext(
            str(paths.agent("{scale}", "{variant}", "{game}", "{seed}")) + "/",
            *paths.AGENT_FILES,
        ),
    log:
        "logs/{scale}/train_agent/{variant}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/train_agent/{variant}/{game}/seed-{seed}.benchmark.tsv"
    threads: cores
    resources:
        gpu=gpu_slots,
    params:
        digest=digest("train_agent"),
    shell:
        "python -m irisflow train-agent --scale {wildcards.scale} --variant {wildcards.variant} --game {wildcards.game}"
        " --seed {wildcards.seed} --digest {params.digest} 2>&1 | tee {log}"

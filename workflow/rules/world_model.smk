# A world model pretrained on recordings, over the tokens of a pretrained tokenizer.

WORLD_MODEL = paths.world_model(
    "{scale}", "{world_model}", "{tokenizer}", "{corpus}", "{game}", "{seed}"
)


rule pretrain_world_model:
    input:
        recordings=named(PLAN.corpus_recordings),
        tokenizer=paths.weights(TOKENIZER, "tokenizer"),
    output:
        multiext(f"{WORLD_MODEL}/", *paths.WORLD_MODEL_FILES),
    log:
        "logs/{scale}/pretrain_world_model/{world_model}/{tokenizer}/{corpus}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/pretrain_world_model/{world_model}/{tokenizer}/{corpus}/{game}/seed-{seed}.benchmark.tsv"
    threads: cores
    resources:
        gpu=gpu_slots,
    params:
        digest=digest("pretrain_world_model"),
    shell:
        "python -m irisflow pretrain-world-model --scale {wildcards.scale} --world-model {wildcards.world_model}"
        " --tokenizer {wildcards.tokenizer} --corpus {wildcards.corpus} --game {wildcards.game}"
        " --seed {wildcards.seed} --digest {params.digest} 2>&1 | tee {log}"

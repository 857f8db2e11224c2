# A tokenizer pretrained on recordings; variants that name the same one share it.

TOKENIZER = paths.tokenizer("{scale}", "{tokenizer}", "{corpus}", "{game}", "{seed}")


rule pretrain_tokenizer:
    input:
        recordings=named(PLAN.corpus_recordings),
    output:
        multiext(f"{TOKENIZER}/", *paths.TOKENIZER_FILES),
    log:
        "logs/{scale}/pretrain_tokenizer/{tokenizer}/{corpus}/{game}/seed-{seed}.log",
    benchmark:
        "logs/{scale}/pretrain_tokenizer/{tokenizer}/{corpus}/{game}/seed-{seed}.benchmark.tsv"
    threads: cores
    resources:
        gpu=gpu_slots,
    params:
        digest=digest("pretrain_tokenizer"),
    shell:
        "python -m irisflow pretrain-tokenizer --scale {wildcards.scale} --tokenizer {wildcards.tokenizer}"
        " --corpus {wildcards.corpus} --game {wildcards.game} --seed {wildcards.seed}"
        " --digest {params.digest} 2>&1 | tee {log}"

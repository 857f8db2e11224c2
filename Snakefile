# IRIS experiments from frames to reports/summary.pdf. `snakemake --cores 8 reports/summary.pdf`
#
# A study (params/study/) names games, variants, seeds and a scale: `--config study=NAME`.
# The README tells the commands, docs/architecture.md how the parts fit.

from snakemake.utils import min_version

min_version("9.27")


configfile: "params/workflow.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tokenizer.smk"
include: "workflow/rules/world_model.smk"
include: "workflow/rules/agent.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "reports/summary.pdf",


rule datasets:
    input:
        RECORDINGS,


rule pretrained:
    input:
        PRETRAINED,


rule agents:
    input:
        AGENTS,


rule scores:
    input:
        SCORES,


rule measurements:
    input:
        MEASUREMENTS,

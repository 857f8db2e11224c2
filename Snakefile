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


# Functions: thousands of files that only a job which asks for them has to list.


rule datasets:
    input:
        lambda wildcards: PLAN.recordings,


rule pretrained:
    input:
        lambda wildcards: PLAN.pretrained,


rule agents:
    input:
        lambda wildcards: PLAN.agents,


rule scores:
    input:
        lambda wildcards: PLAN.scores,


rule measurements:
    input:
        lambda wildcards: PLAN.measurements,

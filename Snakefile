"""mmrepro: from raw data to the tables of a study. `snakemake --cores all` makes the embedded study."""

from snakemake.utils import min_version

min_version("9.0")

if "study" not in config and not workflow.configfiles:  # another study would be merged over a default loaded here

    configfile: "config/studies/miniature.yaml"


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset=r"[a-z0-9-]+",
    features=r"[a-z0-9-]+",
    modality=r"[a-z0-9_]+",
    model=r"[a-z0-9-]+",
    hash=r"[0-9a-f]{12}",
    seed=r"\d+",
    study=r"[a-z0-9-]+",


include: "workflow/rules/datasets.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/tracking.smk"


report: "workflow/report/workflow.rst"


onstart:
    if PLAN.slice:
        print(f"a slice of {PLAN.study.study}: its tables go to {STUDY_FOLDER}, those of the whole study stay")


localrules:
    all,
    track,


rule all:
    """Every table of the study, and its runs in MLflow."""
    default_target: True
    input:
        rules.tables.output,
        [job.product.as_posix() for job in PLAN.jobs if job.of_kind.wanted],
        [file.as_posix() for job in PLAN.jobs if job.can_be_remade(Path(workflow.basedir)) for file in job.files],

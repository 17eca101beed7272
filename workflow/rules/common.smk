"""Look-ups in the plan: everything that a rule knows of its jobs stands there."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from mmrepro.config.files import load_yaml, validate
from mmrepro.config.study import StudyConfig
from mmrepro.datasets.mirror import mirror_folder, source_stamp
from mmrepro.errors import MmreproError
from mmrepro.reporting.escape import one_line
from mmrepro.housekeeping.queue import undecided_devices
from mmrepro.housekeeping.tracking import next_attempt
from mmrepro.study.kinds import KINDS
from mmrepro.study.layout import ENCODER, FEATURES, MEASURES, NO_FEATURES, PREPARED, RAW, RUN, STUDY, TRIAL, Layout
from mmrepro.study.products import table_files
from mmrepro.study.resolve import make_plan, whole_study


def study_file():
    """The study's file: the last one named on the command line, or the default."""
    if not workflow.configfiles:
        return "--config"
    path = Path(workflow.configfiles[-1]).absolute()
    root = Path(workflow.basedir).absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


try:
    WRITTEN = (load_yaml(Path(study_file())) if workflow.configfiles else {}) or {}
    PLAN = make_plan(
        validate(StudyConfig, dict(config), study_file()),
        Path(workflow.basedir),
        study_file(),
        whole_study(WRITTEN, study_file()),
    )
    MIRROR = mirror_folder()
except MmreproError as error:
    raise WorkflowError(one_line(str(error))) from None

JOBS = {(job.kind, job.product.as_posix()): job for job in PLAN.jobs}
SHORT_MINUTES = 2  # a submission costs about half a minute
UNDECIDED = undecided_devices(PLAN)
STUDY_FOLDER = STUDY.format(study=PLAN.name)


def slice_given():
    """What --config has changed, as JSON, for the commands that read the study themselves."""
    return json.dumps({key: value for key, value in config.items() if key not in WRITTEN or WRITTEN[key] != value})


def job(kind):
    """A function of wildcards: the job of a kind that makes what they name."""

    def found(wildcards):
        if workflow.executor_plugin and workflow.executor_plugin.common_settings.implies_no_shared_fs:
            raise WorkflowError("an executor without a shared file system would lose checkpoints; choose another")
        if not workflow.local_exec and UNDECIDED:
            raise WorkflowError(
                f"{UNDECIDED[0]}: `device: auto` would have a node decide about the result;"
                " say `cpu` or `cuda` there"
            )
        return JOBS[kind, KINDS[kind].product.format(**{"study": PLAN.name, **wildcards})]

    return found


def inputs(kind, *left_out):
    """A function of wildcards: the files that a job reads, by name."""
    return lambda wildcards: {
        name: [path.as_posix() for path in paths]
        for name, paths in job(kind)(wildcards).inputs.items()
        if name not in left_out
    }


def undated(kind, name):
    """A function of wildcards: files of a job whose date alone says nothing."""
    return lambda wildcards: [path.as_posix() for path in job(kind)(wildcards).undated.get(name, ())]


def needs(kind, name):
    """A function of wildcards: what a job is granted."""
    return lambda wildcards: getattr(job(kind)(wildcards).needs, name)


def memory(kind):
    """A function of wildcards and attempt: MB that a job is granted, half more with each attempt."""
    return lambda wildcards, attempt: round(job(kind)(wildcards).needs.memory_mb * 1.5 ** (attempt - 1))


def runtime(kind):
    """A function of wildcards: minutes that a job is granted."""
    return lambda wildcards: job(kind)(wildcards).runtime


def short(kind):
    """A function of wildcards: on a cluster, the group in which a job shares a submission with others of its kind."""

    def group(wildcards):
        if workflow.local_exec:
            return None
        granted = job(kind)(wildcards).needs
        return f"short_{kind}" if granted.minutes < SHORT_MINUTES and not granted.gpus else None

    return group


def code(kind):
    """A function of wildcards: the fingerprint of the code that a job runs."""
    return lambda wildcards: job(kind)(wildcards).code


def settings(kind):
    """A function of wildcards: what decides a job's result in the configuration, as JSON; a winner is filled in.

    The order of keys in a file decides nothing. It takes no `input`: Snakemake reruns nothing for a parameter of a
    function that does, and another winner must.
    """
    return lambda wildcards: json.dumps(job(kind)(wildcards).completed(), sort_keys=True)


def searches_of(kind):
    """Names of the searches that jobs of a kind end, as a regular expression."""
    return "|".join(sorted({job.labels["search"] for job in PLAN.jobs_of(kind)})) or "(?!)"


def feature_sets_of(kind):
    """Feature sets of which a kind makes a modality, as a regular expression that looks ahead for the modality.

    A matrix comes from one of two rules, by its encoder.
    """
    made = {(job.labels["features"], job.labels["modality"]) for job in PLAN.jobs_of(kind)}
    return "|".join(f"{features}(?=/{modality}[./])" for features, modality in sorted(made)) or "(?!)"


def mirror_state(wildcards):
    """What the mirror holds of a data set: rows appended there are a change like any other."""
    try:
        return source_stamp(PLAN.raw_datasets[wildcards.dataset], Path(raw_folder(wildcards)), MIRROR)
    except MmreproError as error:
        raise WorkflowError(one_line(str(error))) from None


def raw_folder(wildcards):
    """Folder of the raw files that a data set is made from."""
    known = PLAN.raw_datasets.get(wildcards.dataset) or PLAN.datasets[wildcards.dataset]
    return Layout.raw(known.raw_name).as_posix()


def pretrained_option(wildcards):
    """Option that names the pre-trained encoder, where items are encoded anew by one."""
    files = [path for path in job("extract")(wildcards).inputs["derived_from"] if path.name == "run.json"]
    return " ".join(f"--pretrained {path.with_name('encoder.pt').as_posix()}" for path in files)


def features_option(wildcards):
    """Option that names the feature folder, for models with features."""
    if wildcards.features == NO_FEATURES:
        return ""
    return f"--features {Layout.features(wildcards.dataset, wildcards.features).as_posix()}"


def modalities(wildcards):
    """Modalities of a feature set that is probed."""
    return " ".join(job("probe")(wildcards).settings["modalities"])


def searched(wildcards):
    """Names of the searched parameters, comma separated."""
    return ",".join(job("select")(wildcards).settings["searched"])


def trial_folders(wildcards):
    """Folders of the trials that a selection compares, in the order tried."""
    return job("select")(wildcards).settings["folders"]

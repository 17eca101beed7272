import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from mmrepro.config.study import StudyConfig
from mmrepro.config.features import AlignRecEncoder
from mmrepro.config.files import validate
from mmrepro.errors import MmreproError
from mmrepro.features.weights import local_weights
from mmrepro.records.fingerprint import fingerprint
from mmrepro.study.layout import NO_FEATURES, Layout
from mmrepro.study.plan import complete, plan_hash
from mmrepro.study.resolve import make_plan
from mmrepro.reporting.products import table_files
from mmrepro.reporting.literature import published_files as published_numbers


def study_file():
    """The study's file: the last one named on the command line, or the default."""
    if not workflow.configfiles:
        return "--config"
    path = Path(workflow.configfiles[-1]).absolute()
    root = Path(workflow.basedir).absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


try:
    STUDY = validate(StudyConfig, dict(config), str(study_file()))
    PLAN = make_plan(STUDY, Path(workflow.basedir), str(study_file()))
except MmreproError as error:
    raise WorkflowError(str(error)) from None

RUNS = {run.folder.as_posix(): run for run in PLAN.jobs}
ALIGNMENTS = [(alignment.feature_set, alignment.modality) for alignment in PLAN.alignments]
SELECTIONS = {selection.path.as_posix(): selection for selection in PLAN.selections}
SEQUENTIAL = [path for path, selection in SELECTIONS.items() if selection.sequential]
STUDY_FOLDER = Layout.study(STUDY.study).as_posix()


def dataset_of(wildcards):
    """The data set, or the source of raw files, that a rule's wildcard names."""
    return {**PLAN.sources, **PLAN.datasets}[wildcards.dataset]


def dataset_file(wildcards):
    """The file of a data set; an id `<data set>--<split kind>` has that of the data set it is derived from."""
    path = f"config/datasets/{wildcards.dataset}.yaml"
    return path if Path(path).is_file() else f"config/datasets/{wildcards.dataset.partition('--')[0]}.yaml"


def raw_folder(wildcards):
    """Folder of the raw files that a data set is made from."""
    return Layout.raw(dataset_of(wildcards).raw_name).as_posix()


def raw_manifests(wildcards):
    """What must be there of the raw files: their manifest, and that of downloaded images."""
    dataset = dataset_of(wildcards)
    names = ["MANIFEST.json", "IMAGES.json"] if dataset.images else ["MANIFEST.json"]
    return [f"{raw_folder(wildcards)}/{name}" for name in names]


def reader_fingerprint(stage):
    """A function of wildcards: the fingerprint of a stage and of the data set's reader."""
    return lambda wildcards: fingerprint(stage, dataset_of(wildcards).reader)


def feature_file(wildcards):
    """The file of a feature set; an id `<feature set>--<change>` has that of the one it is derived from."""
    return f"config/features/{PLAN.feature_sets[wildcards.features].base}.yaml"


def one_of(names):
    """A regular expression of exactly these words."""
    return "|".join(sorted(names)) or "(?!)"


def encoder_folder(wildcards):
    """Folder of the encoder that is pre-trained for a modality."""
    base = PLAN.feature_sets[wildcards.features].base
    return Layout.encoder(wildcards.dataset, base, wildcards.modality).as_posix()


def is_pretrained(wildcards):
    """Whether the modality's encoder is pre-trained on the data set itself."""
    return isinstance(encoder_of(wildcards), AlignRecEncoder)


def is_encoded(wildcards):
    """Whether items are encoded; most derived feature sets are made from the table of another."""
    feature_set = PLAN.feature_sets[wildcards.features]
    return not feature_set.name.kind or feature_set.encoded_anew(wildcards.modality)


def derived_from(wildcards):
    """What a derived feature set is made from, besides the items: a table, or the pre-trained encoder."""
    feature_set = PLAN.feature_sets[wildcards.features]
    if not feature_set.name.kind:
        return []
    if is_encoded(wildcards):
        return [f"{encoder_folder(wildcards)}/run.json"]
    return [f"{Layout.features(wildcards.dataset, feature_set.base).as_posix()}/{wildcards.modality}.json"]


def pretrained_option(wildcards):
    """Option that names the pre-trained encoder."""
    needed = is_encoded(wildcards) and is_pretrained(wildcards)
    return f"--pretrained {encoder_folder(wildcards)}/encoder.pt" if needed else ""


def encoder_of(wildcards):
    """The encoder of a modality."""
    return PLAN.feature_sets[wildcards.features].modalities[wildcards.modality]


def encoder_fingerprint(wildcards):
    """Fingerprint of extraction and of the modality's encoder."""
    return fingerprint("extract", encoder_of(wildcards).encoder)


def encoder_weights(wildcards):
    """Local files that the encoder's weights are read from."""
    return local_weights(encoder_of(wildcards)) if is_encoded(wildcards) else []


def training_code(wildcards):
    """Fingerprint of training and of one model."""
    return fingerprint("train", wildcards.model)


def dataset_settings(*keys):
    """A function of wildcards: those settings of the data set that a rule's result depends on, and no others."""
    return lambda wildcards: dataset_of(wildcards).model_dump_json(**{"include": set(keys)})


def alignment_code(wildcards):
    """Fingerprint of pre-training and of encoding."""
    return fingerprint("align_content") + encoder_fingerprint(wildcards)


def graph_settings(wildcards):
    """The length of the item graph's neighbour lists."""
    return PLAN.feature_sets[wildcards.features].neighbours


def run_folder(kind, wildcards):
    """Folder of a run from the wildcards of its rule."""
    w = wildcards
    return f"results/{kind}/{w.dataset}/{w.features}/{w.model}/{w.hash}/seed{w.seed}"


def inputs_of(spec):
    """Prepared data and features that a run of this specification reads."""
    files = {"statistics": (Layout.prepared(spec.dataset) / "statistics.json").as_posix()}
    for modality in spec.modalities:
        folder = Layout.features(spec.dataset, spec.features).as_posix()
        files[modality] = f"{folder}/{modality}.json"
        if "neighbours" in spec.parameters:
            files[f"{modality}_graph"] = f"{folder}/{modality}.neighbours.npz"
    return files


def run_selection(wildcards):
    """The file with the winner that a final run waits for, if any."""
    run = RUNS[run_folder("runs", wildcards)]
    return run.selection.as_posix() if run.selection else []


def run_configuration(kind):
    """A function of wildcards: a run's configuration as JSON; the winner's values are filled in once it is known.

    It takes no `input`: Snakemake reruns nothing for a parameter of a function that does, and another winner must.
    """
    return lambda wildcards: complete(RUNS[run_folder(kind, wildcards)], Path(".")).model_dump_json()


def probe_tables(wildcards):
    """Records of the feature tables that are probed."""
    folder = Layout.features(wildcards.dataset, wildcards.features).as_posix()
    return [f"{folder}/{modality}.json" for modality in PLAN.feature_sets[wildcards.features].modalities]


def probe_modalities(wildcards):
    """Modalities of a feature set."""
    return " ".join(PLAN.feature_sets[wildcards.features].modalities)


def features_option(wildcards):
    """Option that names the feature folder, for models with features."""
    if wildcards.features == NO_FEATURES:
        return ""
    return f"--features {Layout.features(wildcards.dataset, wildcards.features).as_posix()}"


def modality_settings(wildcards):
    """The settings of one modality of a feature set; what a derived one changes stands in its path."""
    return encoder_of(wildcards).model_dump_json()


def selection_of(wildcards):
    """The planned selection of a search."""
    w = wildcards
    return SELECTIONS[f"results/searches/{w.search}/{w.dataset}/{w.features}/{w.model}/{w.hash}.json"]


def selection_trials(wildcards):
    """Records of the trials that a selection compares."""
    return [f"{trial.folder.as_posix()}/run.json" for trial in selection_of(wildcards).trials]


def trial_folders(wildcards):
    """Folders of the trials that a selection compares."""
    return [trial.folder.as_posix() for trial in selection_of(wildcards).trials]


def searched_parameters(wildcards):
    """Names of the searched parameters, comma separated."""
    return ",".join(selection_of(wildcards).searched)


def search_settings(wildcards):
    """A search in one job, as JSON."""
    return selection_of(wildcards).sequential.model_dump_json()


def search_code(wildcards):
    """Fingerprint of the search, of training and of the model."""
    return fingerprint("search") + training_code(wildcards)


def study_selections(wildcards):
    """Winners and trials of the study's search."""
    return list(SELECTIONS)


def finished(name):
    """A function of wildcards: that file of every final run of the study."""
    return lambda wildcards: [f"{run.folder.as_posix()}/{name}" for run in PLAN.final_runs]


def finished_alignments(wildcards):
    """Records of all pre-trainings of the study."""
    return [f"{alignment.folder.as_posix()}/run.json" for alignment in PLAN.alignments]


def study_probes(wildcards):
    """Quality of the study's feature sets."""
    return [probe.path.as_posix() for probe in PLAN.probes]


def study_data(wildcards):
    """Interactions and statistics of the study's data sets."""
    names = ("interactions.parquet", "statistics.json")
    return [(Layout.prepared(dataset) / name).as_posix() for dataset in STUDY.datasets for name in names]


def published_files(wildcards):
    """Published numbers that the study is compared with."""
    return [file.as_posix() for file in published_numbers(STUDY)]


def study_settings(wildcards):
    """What the tables depend on in the configuration."""
    return plan_hash(PLAN)


def study_slice(wildcards):
    """The data sets, models and seeds of this invocation, which --config may have narrowed."""
    return json.dumps({"datasets": STUDY.datasets, "models": STUDY.models, "seeds": STUDY.seeds})

"""What a job needs: threads, memory, minutes, graphics cards."""

from mmrepro.study.needs import memory_mb, minutes, width


def dataset_memory(stage):
    """A function of wildcards: MB that a stage needs for the data set."""
    return lambda wildcards: memory_mb(stage, dataset_of(wildcards))


def modality_memory(stage):
    """A function of wildcards: MB that a stage needs for one modality."""

    def memory(wildcards):
        encoder = encoder_of(wildcards)
        return memory_mb(stage, dataset_of(wildcards), (width(encoder, wildcards.modality),), encoder.encoder)

    return memory


def encoder_threads(wildcards):
    """Threads of the encoder."""
    return getattr(encoder_of(wildcards), "threads", 1) if is_encoded(wildcards) else 1


def encoder_gpus(wildcards):
    """One GPU where the encoder asks for one."""
    return int(is_encoded(wildcards) and getattr(encoder_of(wildcards), "device", "cpu") == "cuda")


def of_run(kind, value):
    """A function of wildcards: what follows from the specification of a run."""
    return lambda wildcards: value(RUNS[run_folder(kind, wildcards)].spec)


def of_search(value):
    """A function of wildcards: what follows from the specification of the trials of a search in one job."""
    return lambda wildcards: value(selection_of(wildcards).sequential.trial)


def threads_of(spec):
    """Threads of a run of this specification."""
    return spec.threads


def run_widths(spec):
    """Columns of the feature matrices that a run reads."""
    modalities = PLAN.feature_sets[spec.features].modalities if spec.features else {}
    return [width(encoder, modality) for modality, encoder in modalities.items()]


def memory_of(spec):
    """MB that a run of this specification needs."""
    size = spec.parameters.get("embedding_size", 64)
    dataset = PLAN.datasets[spec.dataset]
    return memory_mb("train", dataset, run_widths(spec), embedding_size=size, model=spec.model)


def estimated_minutes(spec):
    """Minutes that a run of this specification is expected to take."""
    return minutes("train", PLAN.datasets[spec.dataset], run_widths(spec), model=spec.model)


def minutes_of(spec):
    """Minutes granted to a run of this specification, three times the estimate and at least half a day."""
    return max(720, round(3 * estimated_minutes(spec)))


def alignment_minutes(wildcards):
    """Minutes granted to a pre-training, three times the estimate and at least half a day."""
    encoder = encoder_of(wildcards)
    epochs = getattr(encoder, "epochs", 1)
    return max(720, round(3 * minutes("align_content", dataset_of(wildcards), encoder=encoder.encoder, epochs=epochs)))


def gpus_of(spec):
    """One GPU where the study asks for one."""
    return int(spec.device == "cuda")


def probe_memory(wildcards):
    """MB that probing a feature set needs."""
    encoders = PLAN.feature_sets[wildcards.features].modalities
    return memory_mb("probe", dataset_of(wildcards), [width(encoder, m) for m, encoder in encoders.items()])


def search_minutes(wildcards):
    """Minutes granted to all trials of a search in one job, three times the estimate and at least half a day."""
    search = selection_of(wildcards).sequential
    return max(720, round(3 * search.budget * estimated_minutes(search.trial)))

rule probe:
    """Measure what the features {wildcards.features} of {wildcards.dataset} are worth without a recommender."""
    input:
        unpack(inputs("probe")),
    output:
        probe=KINDS["probe"].product,
    log:
        KINDS["probe"].log_file,
    benchmark:
        KINDS["probe"].benchmark_file
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("probe", "threads")
    resources:
        mem_mb=memory("probe"),
        runtime=runtime("probe"),
    params:
        code=code("probe"),
        settings=settings("probe"),
        modalities=modalities,
        features=lambda wildcards: Layout.features(wildcards.dataset, wildcards.features).as_posix(),
    shell:
        "mmrepro probe $(dirname {input.statistics}) {params.features} {params.modalities}"
        " --output {output.probe} >> {log} 2>&1"


rule measure:
    """Measure the lists of all runs on {wildcards.dataset}."""
    input:
        unpack(inputs("measure")),
    output:
        means=f"{MEASURES}.json",
        per_user=f"{MEASURES}.parquet",
    log:
        KINDS["measure"].log_file,
    benchmark:
        KINDS["measure"].benchmark_file
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("measure", "threads")
    resources:
        mem_mb=memory("measure"),
        runtime=runtime("measure"),
    params:
        code=code("measure"),
        settings=settings("measure"),
        file=lambda wildcards: study_file(),
        slice=lambda wildcards: slice_given(),
    shell:
        "mmrepro measure {params.file:q} {wildcards.dataset} --slice {params.slice:q} --output results >> {log} 2>&1"

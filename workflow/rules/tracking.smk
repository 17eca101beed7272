rule track:
    """Import the study's finished runs into MLflow."""
    input:
        unpack(inputs("track")),
    output:
        receipt=f"{STUDY_FOLDER}/tracking.json",
    log:
        KINDS["track"].log_file.format(study=PLAN.name),
    benchmark:
        KINDS["track"].benchmark_file.format(study=PLAN.name)
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("track", "threads")
    resources:
        mem_mb=memory("track"),
        runtime=runtime("track"),
    params:
        code=code("track"),
        settings=settings("track"),
        file=lambda wildcards: study_file(),
        slice=lambda wildcards: slice_given(),
        attempt=next_attempt(PLAN),
    shell:
        "mmrepro track {params.file:q} --slice {params.slice:q} --attempt {params.attempt} 2>&1 | tee --append {log}"

rule tables:
    """Build every table of the study from its finished runs."""
    input:
        unpack(inputs("tables")),
    output:
        [
            report(
                f"{STUDY_FOLDER}/{path}",
                category=path.parent.name or "summary",
                labels={"study": PLAN.name, "file": path.name},
            )
            for path in table_files(PLAN)
        ],
    log:
        KINDS["tables"].log_file.format(study=PLAN.name),
    benchmark:
        KINDS["tables"].benchmark_file.format(study=PLAN.name)
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("tables", "threads")
    resources:
        mem_mb=needs("tables", "memory_mb"),
        runtime=runtime("tables"),
    params:
        code=code("tables"),
        settings=settings("tables"),
        file=lambda wildcards: study_file(),
        slice=lambda wildcards: slice_given(),
    shell:
        "mmrepro tables {params.file:q} --slice {params.slice:q} --output results > {log} 2>&1"

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
        mem_mb=memory("tables"),
        runtime=runtime("tables"),
    params:
        code=code("tables"),
        settings=settings("tables"),
        file=lambda wildcards: study_file(),
        slice=lambda wildcards: slice_given(),
    shell:
        "mmrepro tables {params.file:q} --slice {params.slice:q} --output results >> {log} 2>&1"


rule page:
    """Build the page of the study from its tables and runs."""
    input:
        unpack(inputs("page")),
    output:
        page=report(f"{STUDY_FOLDER}/report/index.html", category="page", labels={"study": PLAN.name}),
        main=f"{STUDY_FOLDER}/report/main.html",
    log:
        KINDS["page"].log_file.format(study=PLAN.name),
    benchmark:
        KINDS["page"].benchmark_file.format(study=PLAN.name)
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("page", "threads")
    resources:
        mem_mb=memory("page"),
        runtime=runtime("page"),
    params:
        code=code("page"),
        settings=settings("page"),
        file=lambda wildcards: study_file(),
        slice=lambda wildcards: slice_given(),
    shell:
        "mmrepro page {params.file:q} --slice {params.slice:q} --output results >> {log} 2>&1"

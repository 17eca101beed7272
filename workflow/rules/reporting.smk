rule tables:
    """Build every table of the study from its finished runs."""
    input:
        runs=finished("run.json"),
        per_user=finished("per_user.parquet"),
        lists=finished("lists.parquet"),
        selections=study_selections,
        data=study_data,
        probes=study_probes,
        alignments=finished_alignments,
        published=published_files,
    output:
        [
            report(
                f"{STUDY_FOLDER}/{path}",
                category=path.parent.name or "summary",
                labels={"study": STUDY.study, "file": path.name},
            )
            for path in table_files(PLAN)
        ],
    log:
        f"logs/tables/{STUDY.study}.log",
    benchmark:
        f"logs/benchmarks/tables/{STUDY.study}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=fingerprint("tables"),
        study=study_settings,
        file=study_file(),
        slice=study_slice,
    shell:
        "mmrepro tables {params.file} --slice {params.slice:q} --output results > {log} 2>&1"

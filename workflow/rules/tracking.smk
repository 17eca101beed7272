rule track:
    """Import the study's finished runs into MLflow."""
    input:
        runs=finished("run.json"),
        selections=study_selections,
        alignments=finished_alignments,
    output:
        receipt=f"{STUDY_FOLDER}/tracking.json",
    log:
        f"logs/track/{STUDY.study}.log",
    benchmark:
        f"logs/benchmarks/track/{STUDY.study}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=fingerprint("track"),
        file=study_file(),
        slice=study_slice,
    shell:
        "mmrepro track {params.file} --slice {params.slice:q} > {log} 2>&1"

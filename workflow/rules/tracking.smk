rule track:
    """Import the study's finished runs into MLflow."""
    input:
        runs=finished_runs,
    output:
        receipt=f"{STUDY_FOLDER}/tracking.json",
    params:
        code=fingerprint("track"),
        file=study_file(),
        slice=study_slice,
    log:
        f"logs/track/{STUDY.study}.log",
    benchmark:
        f"logs/benchmarks/track/{STUDY.study}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    conda:
        "../../envs/mmrepro.yaml"
    shell:
        "mmrepro track {params.file} --slice {params.slice:q} > {log} 2>&1"

rule fetch:
    """Bring the raw files of {wildcards.dataset} here and verify them."""
    input:
        config=ancient("config/datasets/{dataset}.yaml"),
    output:
        manifest="data/raw/{dataset}/MANIFEST.json",
    params:
        code=reader_fingerprint("fetch"),
        settings=settings_of("datasets", "dataset", "reader", "folder", "files", "options"),
    log:
        "logs/fetch/{dataset}.log",
    benchmark:
        "logs/benchmarks/fetch/{dataset}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    conda:
        "../../envs/mmrepro.yaml"
    shell:
        "mmrepro fetch {input.config} --output data/raw/{wildcards.dataset} > {log} 2>&1"


rule prepare:
    """Clean, filter, re-index and split {wildcards.dataset}."""
    input:
        config=ancient("config/datasets/{dataset}.yaml"),
        manifest="data/raw/{dataset}/MANIFEST.json",
    output:
        interactions="data/prepared/{dataset}/interactions.parquet",
        item_list="data/prepared/{dataset}/items.parquet",
        user_list="data/prepared/{dataset}/users.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
    params:
        code=reader_fingerprint("prepare"),
        settings=settings_of("datasets", "dataset"),
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../../envs/mmrepro.yaml"
    shell:
        "mmrepro prepare {input.config} data/raw/{wildcards.dataset}"
        " --output data/prepared/{wildcards.dataset} > {log} 2>&1"

rule fetch:
    """Bring the raw files of {wildcards.dataset} here and verify them."""
    input:
        config=ancient("config/datasets/{dataset}.yaml"),
    output:
        manifest="data/raw/{dataset}/MANIFEST.json",
    log:
        "logs/fetch/{dataset}.log",
    benchmark:
        "logs/benchmarks/fetch/{dataset}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=dataset_memory("fetch"),
        runtime=240,
    params:
        code=reader_fingerprint("fetch"),
        settings=dataset_settings("reader", "folder", "files", "options"),
    shell:
        "mmrepro fetch {input.config} --output data/raw/{wildcards.dataset} > {log} 2>&1"


rule images:
    """Download the images of the items of {wildcards.dataset} that survive its filters."""
    input:
        config=ancient(dataset_file),
        manifest="data/raw/{dataset}/MANIFEST.json",
    output:
        manifest="data/raw/{dataset}/IMAGES.json",
    log:
        "logs/images/{dataset}.log",
    benchmark:
        "logs/benchmarks/images/{dataset}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=dataset_memory("images"),
        runtime=240,
    params:
        code=reader_fingerprint("images"),
        settings=dataset_settings("reader", "options", "images", "k_core", "drop_duplicates"),
    shell:
        "mmrepro images {input.config} data/raw/{wildcards.dataset} > {log} 2>&1"


rule prepare:
    """Clean, filter, re-index and split {wildcards.dataset}."""
    input:
        config=ancient(dataset_file),
        manifests=raw_manifests,
    output:
        interactions="data/prepared/{dataset}/interactions.parquet",
        item_list="data/prepared/{dataset}/items.parquet",
        user_list="data/prepared/{dataset}/users.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=dataset_memory("prepare"),
        runtime=60,
    params:
        code=reader_fingerprint("prepare"),
        settings=dataset_settings(
            "reader",
            "options",
            "k_core",
            "drop_duplicates",
            "drop_items_without",
            "split",
            "cold_users",
            "cold_items",
            "expected",
        ),
        raw=raw_folder,
    shell:
        "mmrepro prepare config/datasets/{wildcards.dataset}.yaml {params.raw}"
        " --output data/prepared/{wildcards.dataset} > {log} 2>&1"

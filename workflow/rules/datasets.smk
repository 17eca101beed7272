rule fetch:
    """Bring the raw files of {wildcards.dataset} here and verify them."""
    input:
        config=ancient(undated("fetch", "config")),
    output:
        manifest=f"{RAW}/MANIFEST.json",
    log:
        KINDS["fetch"].log_file,
    benchmark:
        KINDS["fetch"].benchmark_file
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("fetch", "threads")
    resources:
        mem_mb=memory("fetch"),
        runtime=runtime("fetch"),
    params:
        code=code("fetch"),
        settings=settings("fetch"),
        mirror=mirror_state,
    shell:
        "mmrepro fetch config/datasets/{wildcards.dataset}.yaml --output $(dirname {output.manifest}) >> {log} 2>&1"


rule images:
    """Download the images of the items of {wildcards.dataset} that survive its filters."""
    input:
        unpack(inputs("images")),
        config=ancient(undated("images", "config")),
    output:
        manifest=f"{RAW}/IMAGES.json",
    log:
        KINDS["images"].log_file,
    benchmark:
        KINDS["images"].benchmark_file
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("images", "threads")
    resources:
        mem_mb=memory("images"),
        runtime=runtime("images"),
    params:
        code=code("images"),
        settings=settings("images"),
    shell:
        "mmrepro images config/datasets/{wildcards.dataset}.yaml $(dirname {output.manifest}) >> {log} 2>&1"


rule prepare:
    """Clean, filter, re-index and split {wildcards.dataset}."""
    input:
        unpack(inputs("prepare")),
        config=ancient(undated("prepare", "config")),
    output:
        interactions=f"{PREPARED}/interactions.parquet",
        item_list=f"{PREPARED}/items.parquet",
        user_list=f"{PREPARED}/users.parquet",
        left_out=f"{PREPARED}/left_out.parquet",
        statistics=f"{PREPARED}/statistics.json",
    log:
        KINDS["prepare"].log_file,
    benchmark:
        KINDS["prepare"].benchmark_file
    group:
        short("prepare")
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("prepare", "threads")
    resources:
        mem_mb=memory("prepare"),
        runtime=runtime("prepare"),
    params:
        code=code("prepare"),
        settings=settings("prepare"),
        raw=raw_folder,
    shell:
        "mmrepro prepare config/datasets/{wildcards.dataset}.yaml {params.raw}"
        " --output $(dirname {output.statistics}) >> {log} 2>&1"

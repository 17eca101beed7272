rule extract:
    """Encode the {wildcards.modality} of every item of {wildcards.dataset}."""
    input:
        config=ancient("config/features/{features}.yaml"),
        manifests=raw_manifests,
        item_list="data/prepared/{dataset}/items.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
        weights=encoder_weights,
    output:
        matrix="data/features/{dataset}/{features}/{modality}.npy",
        record="data/features/{dataset}/{features}/{modality}.json",
    log:
        "logs/extract/{dataset}/{features}/{modality}.log",
    benchmark:
        "logs/benchmarks/extract/{dataset}/{features}/{modality}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: encoder_threads
    resources:
        mem_mb=modality_memory("extract"),
        runtime=240,
        gpu=encoder_gpus,
    params:
        code=encoder_fingerprint,
        settings=modality_settings,
        raw=raw_folder,
    shell:
        "mmrepro extract {input.config} {wildcards.modality} data/prepared/{wildcards.dataset}"
        " {params.raw} --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"


rule item_graph:
    """Find the nearest items of every item of {wildcards.dataset} by {wildcards.modality}."""
    input:
        config=ancient("config/features/{features}.yaml"),
        matrix=ancient("data/features/{dataset}/{features}/{modality}.npy"),
        record="data/features/{dataset}/{features}/{modality}.json",
    output:
        graph="data/features/{dataset}/{features}/{modality}.neighbours.npz",
    log:
        "logs/item_graph/{dataset}/{features}/{modality}.log",
    benchmark:
        "logs/benchmarks/item_graph/{dataset}/{features}/{modality}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=modality_memory("item_graph"),
        runtime=60,
    params:
        code=fingerprint("item_graph"),
        settings=graph_settings,
    shell:
        "mmrepro item-graph {input.config} {wildcards.modality} data/features/{wildcards.dataset}/{wildcards.features}"
        " --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"

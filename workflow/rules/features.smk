rule extract:
    """Encode the {wildcards.modality} of every item of {wildcards.dataset}."""
    input:
        config=ancient("config/features/{features}.yaml"),
        manifest="data/raw/{dataset}/MANIFEST.json",
        item_list="data/prepared/{dataset}/items.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
    output:
        matrix="data/features/{dataset}/{features}/{modality}.npy",
        record="data/features/{dataset}/{features}/{modality}.json",
    params:
        code=encoder_fingerprint,
        settings=modality_settings,
    log:
        "logs/extract/{dataset}/{features}/{modality}.log",
    benchmark:
        "logs/benchmarks/extract/{dataset}/{features}/{modality}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    conda:
        "../../envs/mmrepro.yaml"
    shell:
        "mmrepro extract {input.config} {wildcards.modality} data/prepared/{wildcards.dataset}"
        " data/raw/{wildcards.dataset} --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"


rule item_graph:
    """Find the nearest items of every item of {wildcards.dataset} by {wildcards.modality}."""
    input:
        config=ancient("config/features/{features}.yaml"),
        matrix=ancient("data/features/{dataset}/{features}/{modality}.npy"),
        record="data/features/{dataset}/{features}/{modality}.json",
    output:
        graph="data/features/{dataset}/{features}/{modality}.neighbours.npz",
    params:
        code=fingerprint("item_graph"),
        settings=settings_of("feature_sets", "features", "neighbours"),
    log:
        "logs/item_graph/{dataset}/{features}/{modality}.log",
    benchmark:
        "logs/benchmarks/item_graph/{dataset}/{features}/{modality}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    conda:
        "../../envs/mmrepro.yaml"
    shell:
        "mmrepro item-graph {input.config} {wildcards.modality} data/features/{wildcards.dataset}/{wildcards.features}"
        " --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"

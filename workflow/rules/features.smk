# Where an encoder is pre-trained on the data set, that job writes the table too.
ruleorder: align_content > extract


rule extract:
    """Encode the {wildcards.modality} of every item of {wildcards.dataset}."""
    input:
        config=ancient(feature_file),
        manifests=raw_manifests,
        item_list="data/prepared/{dataset}/items.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
        weights=encoder_weights,
        derived_from=derived_from,
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
        pretrained=pretrained_option,
    shell:
        "mmrepro extract config/features/{wildcards.features}.yaml {wildcards.modality} data/prepared/{wildcards.dataset}"
        " {params.raw} {params.pretrained} --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"


rule item_graph:
    """Find the nearest items of every item of {wildcards.dataset} by {wildcards.modality}."""
    input:
        config=ancient(feature_file),
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
        "mmrepro item-graph config/features/{wildcards.features}.yaml {wildcards.modality} data/features/{wildcards.dataset}/{wildcards.features}"
        " --output data/features/{wildcards.dataset}/{wildcards.features} > {log} 2>&1"

rule probe:
    """Measure what the features {wildcards.features} of {wildcards.dataset} are worth without a recommender."""
    input:
        interactions="data/prepared/{dataset}/interactions.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
        records=probe_tables,
    output:
        probe="results/probes/{dataset}/{features}.json",
    log:
        "logs/probes/{dataset}/{features}.log",
    benchmark:
        "logs/benchmarks/probes/{dataset}/{features}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=probe_memory,
        runtime=240,
    params:
        code=fingerprint("probe"),
        modalities=probe_modalities,
    shell:
        "mmrepro probe data/prepared/{wildcards.dataset} data/features/{wildcards.dataset}/{wildcards.features}"
        " {params.modalities} --output {output.probe} > {log} 2>&1"

rule align_content:
    """Pre-train an encoder on the images and texts of {wildcards.dataset}, and encode every item."""
    input:
        unpack(inputs("align_content")),
        config=ancient(undated("align_content", "config")),
    output:
        encoder=f"{ENCODER}/encoder.pt",
        run=f"{ENCODER}/run.json",
        history=f"{ENCODER}/history.jsonl",
        matrix=f"{FEATURES}/{{modality}}.npy",
        record=f"{FEATURES}/{{modality}}.json",
    log:
        KINDS["align_content"].log_file,
    benchmark:
        KINDS["align_content"].benchmark_file
    wildcard_constraints:
        features=feature_sets_of("align_content"),
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("align_content", "threads")
    resources:
        mem_mb=memory("align_content"),
        runtime=runtime("align_content"),
        gpu=needs("align_content", "gpus"),
    params:
        code=code("align_content"),
        settings=settings("align_content"),
        raw=raw_folder,
    shell:
        "mmrepro align-content config/features/{wildcards.features}.yaml {wildcards.modality}"
        " $(dirname {input.statistics}) {params.raw} --encoder $(dirname {output.encoder})"
        " --output $(dirname {output.record}) >> {log} 2>&1"


rule extract:
    """Encode the {wildcards.modality} of every item of {wildcards.dataset}."""
    input:
        unpack(inputs("extract")),
        config=ancient(undated("extract", "config")),
    output:
        matrix=f"{FEATURES}/{{modality}}.npy",
        record=f"{FEATURES}/{{modality}}.json",
    log:
        KINDS["extract"].log_file,
    benchmark:
        KINDS["extract"].benchmark_file
    wildcard_constraints:
        features=feature_sets_of("extract"),
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("extract", "threads")
    resources:
        mem_mb=memory("extract"),
        runtime=runtime("extract"),
        gpu=needs("extract", "gpus"),
    params:
        code=code("extract"),
        settings=settings("extract"),
        raw=raw_folder,
        pretrained=pretrained_option,
    shell:
        "mmrepro extract config/features/{wildcards.features}.yaml {wildcards.modality} $(dirname {input.statistics})"
        " {params.raw} {params.pretrained} --output $(dirname {output.record}) >> {log} 2>&1"


rule item_graph:
    """Find the nearest items of every item of {wildcards.dataset} by {wildcards.modality}."""
    input:
        unpack(inputs("item_graph")),
        config=ancient(undated("item_graph", "config")),
        matrix=ancient(undated("item_graph", "matrix")),
    output:
        graph=f"{FEATURES}/{{modality}}.neighbours.npz",
    log:
        KINDS["item_graph"].log_file,
    benchmark:
        KINDS["item_graph"].benchmark_file
    group:
        short("item_graph")
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("item_graph", "threads")
    resources:
        mem_mb=memory("item_graph"),
        runtime=runtime("item_graph"),
    params:
        code=code("item_graph"),
        settings=settings("item_graph"),
        prepared=lambda wildcards: Layout.prepared(wildcards.dataset).as_posix(),
        raw=raw_folder,
    shell:
        "mmrepro item-graph config/features/{wildcards.features}.yaml {wildcards.modality} $(dirname {output.graph})"
        " --prepared {params.prepared} --raw {params.raw} --output $(dirname {output.graph}) >> {log} 2>&1"

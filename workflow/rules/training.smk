rule align_content:
    """Pre-train an encoder on the images and texts of {wildcards.dataset}, and encode every item."""
    input:
        config=ancient(feature_file),
        manifests=raw_manifests,
        item_list="data/prepared/{dataset}/items.parquet",
        statistics="data/prepared/{dataset}/statistics.json",
        weights=encoder_weights,
    output:
        encoder="data/encoders/{dataset}/{features}/{modality}/encoder.pt",
        run="data/encoders/{dataset}/{features}/{modality}/run.json",
        history="data/encoders/{dataset}/{features}/{modality}/history.jsonl",
        matrix="data/features/{dataset}/{features}/{modality}.npy",
        record="data/features/{dataset}/{features}/{modality}.json",
    log:
        "logs/align_content/{dataset}/{features}/{modality}.log",
    benchmark:
        "logs/benchmarks/align_content/{dataset}/{features}/{modality}.tsv"
    wildcard_constraints:
        features=one_of({name for name, _ in ALIGNMENTS}),
        modality=one_of({modality for _, modality in ALIGNMENTS}),
    conda:
        "../../envs/mmrepro.yaml"
    threads: encoder_threads
    resources:
        mem_mb=modality_memory("align_content"),
        runtime=alignment_minutes,
        gpu=encoder_gpus,
    params:
        code=alignment_code,
        settings=modality_settings,
        raw=raw_folder,
    shell:
        "mmrepro align-content config/features/{wildcards.features}.yaml {wildcards.modality}"
        " data/prepared/{wildcards.dataset} {params.raw} --encoder $(dirname {output.encoder})"
        " --output $(dirname {output.record}) > {log} 2>&1"


rule train_trial:
    """Try one setting of {wildcards.model} on {wildcards.dataset}, judged on validation."""
    input:
        unpack(of_run("trials", inputs_of)),
    output:
        record="results/trials/{dataset}/{features}/{model}/{hash}/seed{seed}/run.json",
        history="results/trials/{dataset}/{features}/{model}/{hash}/seed{seed}/history.jsonl",
        config="results/trials/{dataset}/{features}/{model}/{hash}/seed{seed}/config.yaml",
    log:
        "logs/trials/{dataset}/{features}/{model}/{hash}/seed{seed}.log",
    benchmark:
        "logs/benchmarks/trials/{dataset}/{features}/{model}/{hash}/seed{seed}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: of_run("trials", threads_of)
    resources:
        mem_mb=of_run("trials", memory_of),
        runtime=of_run("trials", minutes_of),
        gpu=of_run("trials", gpus_of),
    params:
        code=training_code,
        run=run_configuration("trials"),
        features=features_option,
    shell:
        "mmrepro train --run {params.run:q} --seed {wildcards.seed} --threads {threads}"
        " --prepared data/prepared/{wildcards.dataset} {params.features} --output $(dirname {output.record}) > {log} 2>&1"


rule select:
    """Choose the best trial of {wildcards.model} on {wildcards.dataset}."""
    input:
        trials=selection_trials,
    output:
        selection="results/searches/{search}/{dataset}/{features}/{model}/{hash}.json",
    log:
        "logs/searches/{search}/{dataset}/{features}/{model}/{hash}.log",
    benchmark:
        "logs/benchmarks/searches/{search}/{dataset}/{features}/{model}/{hash}.tsv"
    wildcard_constraints:
        search="(?!)" if SEQUENTIAL else r"[a-z0-9-]+",
    conda:
        "../../envs/mmrepro.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=fingerprint("select"),
        searched=searched_parameters,
        folders=trial_folders,
    shell:
        "mmrepro select {params.folders} --searched {params.searched} --output {output.selection} > {log} 2>&1"


rule search:
    """Search the parameters of {wildcards.model} on {wildcards.dataset}, each trial proposed from those before it."""
    input:
        unpack(of_search(inputs_of)),
    output:
        selection="results/searches/{search}/{dataset}/{features}/{model}/{hash}.json",
    log:
        "logs/searches/{search}/{dataset}/{features}/{model}/{hash}.log",
    benchmark:
        "logs/benchmarks/searches/{search}/{dataset}/{features}/{model}/{hash}.tsv"
    wildcard_constraints:
        search=r"[a-z0-9-]+" if SEQUENTIAL else "(?!)",
    conda:
        "../../envs/mmrepro.yaml"
    threads: of_search(threads_of)
    resources:
        mem_mb=of_search(memory_of),
        runtime=search_minutes,
        gpu=of_search(gpus_of),
    params:
        code=search_code,
        settings=search_settings,
        features=features_option,
    shell:
        "mmrepro search --settings {params.settings:q} --threads {threads}"
        " --prepared data/prepared/{wildcards.dataset} {params.features} --output {output.selection} > {log} 2>&1"


rule train:
    """Train {wildcards.model} on {wildcards.dataset} with seed {wildcards.seed}, rank, and keep the lists."""
    input:
        unpack(of_run("runs", inputs_of)),
        selection=ancient(run_selection),
    output:
        record="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/run.json",
        lists="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/lists.parquet",
        per_user="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/per_user.parquet",
        model="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/model.pt",
        history="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/history.jsonl",
        config="results/runs/{dataset}/{features}/{model}/{hash}/seed{seed}/config.yaml",
    log:
        "logs/runs/{dataset}/{features}/{model}/{hash}/seed{seed}.log",
    benchmark:
        "logs/benchmarks/runs/{dataset}/{features}/{model}/{hash}/seed{seed}.tsv"
    conda:
        "../../envs/mmrepro.yaml"
    threads: of_run("runs", threads_of)
    resources:
        mem_mb=of_run("runs", memory_of),
        runtime=of_run("runs", minutes_of),
        gpu=of_run("runs", gpus_of),
    params:
        code=training_code,
        run=run_configuration("runs"),
        features=features_option,
    shell:
        "mmrepro train --run {params.run:q} --seed {wildcards.seed} --threads {threads}"
        " --prepared data/prepared/{wildcards.dataset} {params.features} --output $(dirname {output.record}) > {log} 2>&1"

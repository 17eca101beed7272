rule train:
    """Train {wildcards.model} on {wildcards.dataset} with seed {wildcards.seed}, rank, and keep the lists."""
    input:
        unpack(inputs("train")),
        selection=ancient(undated("train", "selection")),
    output:
        record=f"{RUN}/run.json",
        lists=f"{RUN}/lists.parquet",
        model=f"{RUN}/model.pt",
        history=f"{RUN}/history.jsonl",
        config=f"{RUN}/config.yaml",
    log:
        KINDS["train"].log_file,
    benchmark:
        KINDS["train"].benchmark_file
    group:
        short("train")
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("train", "threads")
    resources:
        mem_mb=memory("train"),
        runtime=runtime("train"),
        gpu=needs("train", "gpus"),
    params:
        code=code("train"),
        settings=settings("train"),
        features=features_option,
    shell:
        "mmrepro train --run {params.settings:q} --seed {wildcards.seed} --threads {threads}"
        " --prepared $(dirname {input.statistics}) {params.features} --output $(dirname {output.record}) >> {log} 2>&1"


use rule train as train_trial with:
    input:
        unpack(inputs("train_trial")),
    output:
        record=f"{TRIAL}/run.json",
        history=f"{TRIAL}/history.jsonl",
        config=f"{TRIAL}/config.yaml",
    log:
        KINDS["train_trial"].log_file,
    benchmark:
        KINDS["train_trial"].benchmark_file
    group:
        short("train_trial")
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("train_trial", "threads")
    resources:
        mem_mb=memory("train_trial"),
        runtime=runtime("train_trial"),
        gpu=needs("train_trial", "gpus"),
    params:
        code=code("train_trial"),
        settings=settings("train_trial"),
        features=features_option,


rule select:
    """Choose the best trial of {wildcards.model} on {wildcards.dataset}."""
    input:
        unpack(inputs("select")),
    output:
        selection=KINDS["select"].product,
    log:
        KINDS["select"].log_file,
    benchmark:
        KINDS["select"].benchmark_file
    wildcard_constraints:
        search=searches_of("select"),
    group:
        short("select")
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("select", "threads")
    resources:
        mem_mb=memory("select"),
        runtime=runtime("select"),
    params:
        code=code("select"),
        settings=settings("select"),
        searched=searched,
        folders=trial_folders,
    shell:
        "mmrepro select {params.folders} --searched {params.searched} --output {output.selection} >> {log} 2>&1"


rule search:
    """Search the parameters of {wildcards.model} on {wildcards.dataset}, each trial proposed from those before it."""
    input:
        unpack(inputs("search")),
    output:
        selection=KINDS["search"].product,
    log:
        KINDS["search"].log_file,
    benchmark:
        KINDS["search"].benchmark_file
    wildcard_constraints:
        search=searches_of("search"),
    conda:
        "../../envs/mmrepro.yaml"
    threads: needs("search", "threads")
    resources:
        mem_mb=memory("search"),
        runtime=runtime("search"),
        gpu=needs("search", "gpus"),
    params:
        code=code("search"),
        settings=settings("search"),
        features=features_option,
    shell:
        "mmrepro search --settings {params.settings:q} --threads {threads}"
        " --prepared $(dirname {input.statistics}) {params.features} --output {output.selection} >> {log} 2>&1"

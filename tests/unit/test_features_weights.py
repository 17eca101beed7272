import subprocess
import sys
from pathlib import Path

import pytest
import torch
from features_hand_made import CLIP, feature_set

from mmrepro.config.features import Encoder
from mmrepro.errors import MmreproError
from mmrepro.records.fingerprint import reachable
from mmrepro.runtime.devices import encoding_device, torch_threads
from mmrepro.study.kinds import code_of
from mmrepro.study.weights import local_weights, weights_label


def encoder(**settings: object) -> Encoder:
    return feature_set("text", **settings).modalities["text"]


def test_local_weights_are_the_file_or_all_files_of_the_folder(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "1_Pooling/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path.as_posix()
    files = [f"{folder}/{name}" for name in ("1_Pooling/config.json", "config.json", "model.safetensors")]
    sentences = encoder(encoder="sentence_transformers", source="text", weights=folder)
    assert local_weights(sentences) == files
    assert local_weights(encoder(**{**CLIP, "source": "image", "weights": files[2]})) == [files[2]]
    model = encoder(encoder="mllm", weights=folder, prompt="p", text_weights=files[1])
    assert local_weights(model) == [*files, files[1]]
    assert weights_label(folder) == tmp_path.name


def test_weights_of_a_hub_a_package_or_a_seed_are_no_files() -> None:
    assert local_weights(encoder(**CLIP, source="image")) == []
    assert local_weights(encoder(encoder="sentence_transformers", source="text", weights="offline")) == []
    assert local_weights(encoder(encoder="mllm", weights="some/model", prompt="p")) == []
    assert local_weights(encoder(encoder="published", file="image_feat.npy")) == []
    assert weights_label("some/model") == "some/model"


def test_the_workflow_can_ask_for_local_weights_without_heavy_imports() -> None:
    script = "import sys, mmrepro.study.weights; print({'torch', 'pandas', 'numpy', 'transformers'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_extraction_itself_reaches_no_encoder_and_each_has_a_fingerprint_of_its_own() -> None:
    modules = {module for module, _ in reachable("features.extract:extract")}
    assert {"features.encoders.base", "features.shards", "features.matrix"} <= modules
    assert not [
        module for module in modules if module.startswith("features.encoders.") and module != "features.encoders.base"
    ]
    names = ("open_clip", "sentence_transformers", "mllm", "published", "amazon_image")
    assert len({code_of("extract", encoder=name) for name in names}) == len(names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_auto_is_the_cpu_in_float32_and_cuda_an_error() -> None:
    assert encoding_device("auto") == encoding_device("cpu")
    assert encoding_device("cpu").description() == {"device": "cpu", "precision": "float32"}
    with pytest.raises(MmreproError, match="torch sees no GPU here; set `device: cpu` or `auto`"):
        encoding_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_with_a_gpu_auto_takes_it_in_bfloat16_and_names_its_kind() -> None:
    assert encoding_device("auto") == encoding_device("cuda")
    assert encoding_device("cuda").precision == "bfloat16"
    assert encoding_device("cuda").label == f"cuda ({torch.cuda.get_device_name()})"
    assert encoding_device("cpu").precision == "float32"


def test_threads_are_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
